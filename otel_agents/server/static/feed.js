/*
 * The live feed of an otel-agents server for any page: one WebSocket that comes back by itself
 * and asks for what it missed, each event once. It needs nothing else and touches nothing in the
 * page. How to use it: docs/how-to/live-feed.md.
 *
 *   const stop = feed({ url, token, format: "events", onEvent: (event) => console.log(event) });
 *
 * All options may be left out:
 *   url      The server's address; the page's own by default.
 *   token    A viewer's or the admin's token, sent as the first message and never in an address.
 *   since    The number of the event to go on after; without it the feed begins now.
 *   format   "events" or "progress"; without it an envelope comes for every signal.
 *   types    Types of messages that are wanted, as an array; all by default.
 *   runId    The id of the one run that is wanted.
 *   onEvent  Called with each message, in order; its `seq` is a place to go on after.
 *   onGap    Called with { from, to } where events are no longer stored.
 *   onState  Called with "connecting", "live", "reconnecting" or "refused", and with the reason.
 *   onBack   Called when the feed is live again after it was lost.
 *
 * Returns a function that ends the feed. What onEvent throws is reported as any error of the page
 * is, and harms the feed no further.
 */
const FIRST = 400; // milliseconds until the first try to come back; each further one waits longer
const LONGEST = 10_000;
const PING = 20_000; // between two questions whether the server is still there
const POLICY_CLOSE = 1008;

export function feed(options = {}) {
  const { url, token, since, format, types, runId, onEvent, onGap, onState, onBack } = options;
  let last = Number.isSafeInteger(since) && since >= 0 ? since : null;
  let wait = FIRST;
  let timer = 0;
  let pings = 0;
  let heard = 0;
  let before = false;
  let over = false;
  let socket = null;

  const address = () => {
    const found = new URL("/ws", url ?? location.href);
    found.protocol = found.protocol === "https:" ? "wss:" : "ws:";
    const asked = { since: last, run_id: runId, format, type: types?.join(","), seq: format && 1 };
    for (const [name, value] of Object.entries(asked)) {
      if (value !== undefined && value !== null && value !== "") found.searchParams.set(name, value);
    }
    return found;
  };

  const call = (listener, ...given) => {
    try {
      listener?.(...given);
    } catch (error) {
      reportError(error);
    }
  };

  const ping = () => {
    // A connection can be dead for minutes before anybody is told: then it is ended here.
    if (performance.now() - heard > 2.5 * PING) socket.close();
    else if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"ping"}');
  };

  const take = (text) => {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    const numbered = Number.isSafeInteger(message?.seq);
    if (message?.type === "gap" && Number.isSafeInteger(message.to)) {
      last = message.to; // less than before, where the store is another one
      call(onGap, message);
    } else if (message?.type === "pong") {
      if (numbered) last = Math.max(last ?? 0, message.seq);
    } else if (numbered && last !== null && message.seq <= last) {
      // It was sent twice around a reconnection.
    } else {
      if (numbered) last = message.seq;
      call(onEvent, message);
    }
  };

  const open = () => {
    clearTimeout(timer);
    socket = new WebSocket(address());
    socket.addEventListener("open", () => {
      wait = FIRST;
      heard = performance.now();
      if (token) socket.send(JSON.stringify({ token }));
      ping(); // its answer is our place, should nothing else come
      pings = setInterval(ping, PING);
      call(onState, "live", "");
      if (before) call(onBack);
      before = true;
    });
    socket.addEventListener("message", ({ data }) => {
      heard = performance.now();
      if (!over) take(data);
    });
    socket.addEventListener("close", ({ code, reason }) => {
      clearInterval(pings);
      if (over) return;
      if (code === POLICY_CLOSE) {
        over = true; // the same would be refused again
        call(onState, "refused", reason);
        return;
      }
      call(onState, "reconnecting", reason);
      timer = setTimeout(open, wait * (0.7 + Math.random() * 0.6));
      wait = Math.min(wait * 1.8, LONGEST);
    });
  };

  const hurry = () => {
    if (!over && socket.readyState === WebSocket.CLOSED && !document.hidden) {
      wait = FIRST;
      open();
    }
  };
  addEventListener("online", hurry);
  document.addEventListener("visibilitychange", hurry);
  call(onState, "connecting", "");
  open();

  return () => {
    over = true;
    clearTimeout(timer);
    clearInterval(pings);
    removeEventListener("online", hurry);
    document.removeEventListener("visibilitychange", hurry);
    socket.close();
  };
}
