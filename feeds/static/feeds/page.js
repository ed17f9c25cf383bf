"use strict";

(() => {
  const REMEMBERED = 100; // ids not to show again; the server takes up to 200
  const FRESH = 60_000; // ms a post fetched ahead may wait for its click
  const SAID = {
    1: "Thank you: there will be more like this.",
    [-1]: "Thank you: there will be less like this.",
    0: "Your vote is taken back.",
  };
  const PATIENCE = 10_000; // ms until the server counts as out of reach

  const main = document.querySelector("main");
  const element = (id) => document.getElementById(id);
  const [waste, post, link] = ["waste", "post", "link"].map(element);
  const votes = { up: element("up"), down: element("down"), undo: element("undo") };

  // A browser may refuse storage: then this visit is all that is remembered.
  const memory = {};
  const store = {
    get(key) {
      try {
        return localStorage.getItem(key) ?? memory[key];
      } catch {
        return memory[key];
      }
    },
    set(key, value) {
      memory[key] = value;
      try {
        localStorage.setItem(key, value);
      } catch {
        // Remembered in memory.
      }
    },
  };

  function token() {
    let known = store.get("token");
    if (!/^[A-Za-z0-9_-]{22,64}$/.test(known ?? "")) {
      const bytes = crypto.getRandomValues(new Uint8Array(24));
      known = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
      store.set("token", known);
    }
    return known;
  }

  function shownIds() {
    try {
      const ids = JSON.parse(store.get("shown") ?? "[]");
      return Array.isArray(ids) ? ids.filter(Number.isSafeInteger) : [];
    } catch {
      return [];
    }
  }

  function say(text) {
    element("status").textContent = text;
  }

  class Trouble extends Error {}

  async function ask(address, options = {}) {
    let answer;
    try {
      answer = await fetch(address, {
        ...options,
        headers: { ...options.headers, "X-Client-Token": token() },
        credentials: "omit",
        cache: "no-store",
        signal: AbortSignal.timeout(PATIENCE),
      });
    } catch {
      throw new Trouble("The server cannot be reached. Try again in a moment.");
    }
    if (answer.ok) {
      return answer.json();
    }
    if (answer.status === 429) {
      throw new Trouble(`That was too often. Try again in ${wait(answer)}.`);
    }
    if (answer.status === 404) {
      throw new Trouble("This post is not here any more.");
    }
    throw new Trouble("The server cannot answer just now. Try again in a moment.");
  }

  function wait(answer) {
    const seconds = Number(answer.headers.get("Retry-After")) || 60;
    const minutes = Math.ceil(seconds / 60);
    return minutes > 1 ? `${minutes} minutes` : "a minute";
  }

  // The next post is fetched ahead: a tab opened in the click itself is never
  // taken for a pop-up, and there is nothing to wait for.
  let ahead = null;

  async function draw(exclude) {
    const query = exclude.length ? `?exclude=${exclude.join(",")}` : "";
    return ask(main.dataset.random + query);
  }

  async function next() {
    const shown = shownIds();
    let answer = await draw(shown);
    if (!answer.results.length && shown.length) {
      // All have been seen: begin again, but not with the one just shown.
      store.set("shown", JSON.stringify(shown.slice(-1)));
      answer = await draw(shown.slice(-1));
    }
    if (!answer.results.length && answer.pool.eligible > 0) {
      answer = await draw([]);
    }
    if (!answer.results.length) {
      throw new Trouble("There is nothing to read here yet. Come back later.");
    }
    return answer.results[0];
  }

  function prepare() {
    const drawn = { entry: null, at: Date.now(), promise: null };
    drawn.promise = next().then((entry) => (drawn.entry = entry));
    drawn.promise.catch(() => {}); // Said when the button is pressed.
    ahead = drawn;
  }

  function isFresh(drawn) {
    return drawn !== null && Date.now() - drawn.at < FRESH;
  }

  async function press() {
    const drawn = isFresh(ahead) ? ahead : null;
    ahead = null;
    if (drawn?.entry) {
      window.open(drawn.entry.url, "_blank", "noopener");
      show(drawn.entry);
      return;
    }
    // Nothing is ready: the tab is opened now and sent on when the post is known.
    const tab = window.open("about:blank", "_blank");
    if (tab) {
      tab.opener = null;
    }
    waste.disabled = true;
    say("Looking for a post…");
    try {
      const entry = await (drawn?.promise.catch(() => next()) ?? next());
      tab?.location.replace(entry.url);
      show(entry);
      if (!tab) {
        say("Your browser did not let a tab open: follow the link below.");
      }
    } catch (error) {
      tab?.close();
      complain(error);
    } finally {
      waste.disabled = false;
    }
  }

  function complain(error) {
    if (!(error instanceof Trouble)) {
      throw error;
    }
    say(error.message);
  }

  let current = null;

  function show(entry) {
    current = entry;
    store.set("shown", JSON.stringify([...shownIds(), entry.id].slice(-REMEMBERED)));
    link.textContent = entry.title;
    link.href = entry.url;
    element("site").textContent =
      entry.feed.title && entry.feed.title !== entry.domain
        ? `${entry.feed.title} (${entry.domain})`
        : entry.domain;
    const age = ageOf(entry.published_at);
    element("age").textContent = age && ` · ${age}`;
    mark(entry.my_vote ?? 0);
    post.hidden = false;
    say("");
    prepare();
  }

  function ageOf(date) {
    if (!date) {
      return "";
    }
    const days = Math.max(0, Math.floor((Date.now() - new Date(date)) / 86_400_000));
    const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
    if (days < 31) {
      return words.format(-days, "day");
    }
    return days < 365
      ? words.format(-Math.floor(days / 30.44), "month")
      : words.format(-Math.floor(days / 365.25), "year");
  }

  function mark(value) {
    votes.up.setAttribute("aria-pressed", String(value === 1));
    votes.down.setAttribute("aria-pressed", String(value === -1));
    votes.undo.disabled = value === 0;
  }

  async function vote(value) {
    const entry = current;
    try {
      const tally = await ask(`${main.dataset.entries}${entry.id}/vote/`, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ value }),
      });
      if (entry === current) {
        if (value === 0) {
          // Undo is about to be disabled: a keyboard must not lose its place.
          votes.up.focus();
        }
        mark(tally.my_vote);
        say(SAID[value]);
      }
    } catch (error) {
      complain(error);
    }
  }

  waste.addEventListener("click", press);
  votes.up.addEventListener("click", () => vote(1));
  votes.down.addEventListener("click", () => vote(-1));
  votes.undo.addEventListener("click", () => vote(0));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !isFresh(ahead)) {
      prepare();
    }
  });
  waste.hidden = false;
  prepare();
})();
