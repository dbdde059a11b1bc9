// One WebSocket that comes back by itself and asks for what it missed.
const FIRST = 400;
const LONGEST = 10_000;

export function feed({ since, run, onEvent, onGap, onBack }) {
  const pill = document.getElementById("feed");
  let last = since;
  let wait = FIRST;
  let timer = 0;
  let socket = null;
  let before = false;

  const say = (state) => {
    pill.hidden = false;
    pill.dataset.state = state;
    pill.querySelector(".word").textContent = state;
  };

  const open = () => {
    clearTimeout(timer);
    const address = new URL("/ws", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.searchParams.set("since", String(last));
    if (run) address.searchParams.set("run_id", run);
    socket = new WebSocket(address);
    socket.addEventListener("open", () => {
      wait = FIRST;
      say("live");
      if (before) onBack?.();
      before = true;
    });
    socket.addEventListener("message", (message) => {
      let event;
      try {
        event = JSON.parse(message.data);
      } catch {
        return;
      }
      if (event?.type === "gap") {
        onGap?.(event);
        if (Number.isInteger(event.to)) last = Math.max(last, event.to);
      } else if (Number.isInteger(event?.seq)) {
        // What was sent twice around a reconnection is taken once.
        if (event.seq <= last) return;
        last = event.seq;
        onEvent(event);
      }
    });
    socket.addEventListener("close", () => {
      say("reconnecting");
      timer = setTimeout(open, wait * (0.7 + Math.random() * 0.6));
      wait = Math.min(wait * 1.8, LONGEST);
    });
  };

  const hurry = () => {
    if (socket?.readyState === WebSocket.CLOSED && !document.hidden) {
      wait = FIRST;
      open();
    }
  };
  addEventListener("online", hurry);
  document.addEventListener("visibilitychange", hurry);
  say("connecting");
  open();
}
