/** A relay in its own process, to be killed: `node child.ts STORE PORT`. It prints its port when it listens. */
import { startRelay } from "../../src/relay/index.ts";

const [store = "", port] = process.argv.slice(2);
const relay = await startRelay({ store, port: Number(port) });
console.log(relay.port);
