/** How soon a program that has just started has sent its first message, on a network without obstacles. */
import assert from "node:assert/strict";
import { availableParallelism, loadavg } from "node:os";
import { after, before, describe, it } from "node:test";
import { Internet, type Network } from "./internet.ts";
import { whyNot } from "./needs.ts";
import type { ConnectArgument, Connected } from "./peer.ts";

/** From `Device.connect()` to the acknowledgement of the first message, in ms. */
const FIRST_MESSAGE = 300;

/** Programs, each started for one message. */
const STARTS = 9;

/** In ms, on a machine that does other things as well. */
const PATIENCE = 60_000;

describe("on an open network", { skip: whyNot([], true) }, () => {
  let internet: Internet;
  let net: Network;
  before(async () => {
    internet = new Internet();
    net = internet.network();
    net.letOut();
    await internet.edge("https");
  });
  after(() => internet.close());

  it(`the first message of a program is acknowledged in ${FIRST_MESSAGE} ms`, { timeout: 3 * PATIENCE }, async (t) => {
    const times: number[] = [];
    for (let start = 0; start < STARTS; start += 1) {
      const peer = net.open();
      const argument: ConnectArgument = {
        options: { address: `quick/${start}`, edge: "https://edge.test", ca: net.authority },
        first: { to: `other/${start}`, batch: 0 },
        patience: PATIENCE,
      };
      const result = await peer.call<Connected>("connect", argument);
      assert.ok("first" in result, JSON.stringify(result));
      times.push(result.first);
      await peer.end();
    }
    times.sort((one, other) => one - other);
    const median = times[STARTS >> 1] ?? 0;
    const load = (loadavg()[0] ?? 0) / availableParallelism();
    t.diagnostic(`${times.join(", ")} ms, at ${load.toFixed(1)} busy programs for each core`);
    // Programs that wait for each other measure the machine.
    if (load < 2) assert.ok(median <= FIRST_MESSAGE, `${median} ms`);
  });
});
