// React: a list of what was paid, its state, and a form that publishes. Needs the npm package of clients/js.
import { useEffect, useState } from "react";
import { Visnyk } from "visnyk";

const HUB = "http://127.0.0.1:3000";
const STATES = { connecting: "Connecting", open: "Live", reconnecting: "Reconnecting" };

/** The events of a channel of one type, the connection's state, and a function that publishes. */
function useChannel(channel, type) {
  const [events, setEvents] = useState([]);
  const [state, setState] = useState("Connecting");
  const [hub, setHub] = useState(null);
  useEffect(() => {
    setEvents([]);
    const hub = new Visnyk({ url: HUB, channels: channel, from: "earliest" });
    hub.on(type, (event) => setEvents((before) => [...before.slice(-99), event]));
    hub.on("visnyk.gap", () => setEvents([])); // What follows begins with the oldest event that there is.
    hub.on("visnyk.state", ({ state, detail }) => setState(STATES[state] ?? detail ?? "Closed"));
    setHub(hub);
    return () => hub.close();
  }, [channel, type]);
  return { events, state, publish: (data) => hub.publish(channel, data, { type }) };
}

export function Orders() {
  const { events, state, publish } = useChannel("orders/7", "paid");
  const [error, setError] = useState("");
  async function submit(form) {
    try {
      await publish({ total: Number(form.get("total")) });
      setError("");
    } catch ({ message }) {
      setError(message);
    }
  }
  return (
    <main>
      <p role="status">{state}</p>
      <ul>
        {events.map(({ id, data }) => (
          <li key={id}>{JSON.parse(data).total}</li>
        ))}
      </ul>
      <form action={submit}>
        <input name="total" type="number" aria-label="Total" required />
        <button>Pay</button>
        <p role="alert">{error}</p>
      </form>
    </main>
  );
}
