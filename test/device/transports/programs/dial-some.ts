/** Dials a name with several addresses over this machine's network, and prints the outcome and time. */
import { connect } from "node:net";
import { type DialOptions, dial, direct } from "../../../../src/device/transports/dial.ts";

const { addresses, ...options } = JSON.parse(process.argv[2] ?? "{}") as Partial<DialOptions> & {
  readonly addresses: readonly string[];
};
const dialler = direct({
  network: {
    lookup: async () => addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
    connect: (address, port) => connect({ host: address, port, autoSelectFamily: false }),
  },
});
console.log("dialling");
const begun = performance.now();
try {
  const socket = await dial({ host: "edge.example.com", port: 2492, dialler, ...options });
  console.log(`connected to ${socket.remoteAddress} after ${Math.round(performance.now() - begun)} ms`);
  socket.destroy();
} catch (error) {
  console.log(String(error));
}
