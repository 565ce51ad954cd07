/** A relay at an address, with an accelerated clock. */
import "../../../support/fast-clock.ts";
import { startRelay } from "../../../../src/relay/index.ts";

const relay = await startRelay({ host: process.argv[2] ?? "", port: 2492 });
console.log(`listening on ${relay.port}`);
