-- Asks for the lines of a file in turn ("PATH" or "PATH<tab>X-Client-Token"), and
-- prints what came of it as one line of JSON; times in microseconds.

local asked, at = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    local path, token = line:match("^(%S+)\t?(%S*)$")
    local headers = {}
    if token ~= "" then headers["X-Client-Token"] = token end
    asked[#asked + 1] = wrk.format("GET", path, headers)
  end
end

function request()
  at = at % #asked + 1
  return asked[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "errors": %d, "mean": %.1f, "p50": %d, '
      .. '"p95": %d, "p99": %d, "max": %d}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency.mean, latency:percentile(50), latency:percentile(95),
    latency:percentile(99), latency.max))
end
