// Follows orders and publishes to them: node orders.mjs [follow | paid TOTAL]. Needs the npm package of clients/js.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Visnyk } from "visnyk";

const POSITION = "orders.position"; // where it goes on after a restart
const { VISNYK_URL: url = "http://127.0.0.1:3000", VISNYK_TOKEN: token } = process.env;

function follow() {
  const from = existsSync(POSITION) ? readFileSync(POSITION, "utf8") : "earliest";
  const hub = new Visnyk({ url, token, channels: "orders/7", from });
  hub.on("paid", ({ data, id }) => {
    console.log("paid", JSON.parse(data).total);
    writeFileSync(POSITION, id);
  });
  hub.on("visnyk.gap", ({ reason }) => console.error("events are missing:", reason));
  hub.on("visnyk.closed", () => console.error("the channel was deleted"));
  hub.on("visnyk.state", ({ state, reason, detail }) => {
    if (state === "reconnecting") console.error("trying again");
    if (state === "closed") {
      if (reason !== "gone") console.error(`${reason}: ${detail}`);
      process.exitCode = 1;
    }
  });
}

async function publish(total) {
  const hub = new Visnyk({ url, token });
  try {
    const { id } = await hub.publish("orders/7", { total }, { type: "paid" });
    console.log(id);
  } catch (error) {
    console.error(`refused: ${error.message}`);
    process.exitCode = 1;
  }
}

const [command, total] = process.argv.slice(2);
if (command === "paid") await publish(Number(total));
else follow();
