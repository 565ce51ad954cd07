/**
 * A device of an edge in a process of its own, whose clock is driven:
 *
 *   idle-device.ts SPEED EDGE ADDRESS TRANSPORT TOKEN [PEER SECONDS BYTES]
 *
 * It prints "connected", and then what it does is nothing, or to send PEER a message of BYTES every SECONDS. It takes what
 * comes. It prints "lost" if its connection ends, and "sent N" when its input ends.
 */
import "./driven-clock.ts";
import { Device } from "../../src/device/index.ts";
import type { TransportName } from "../../src/device/transports/transport.ts";
import { setSpeed } from "./driven-clock.ts";

const [, , speed = "", edge = "", address = "", transport = "", token = "", peer, seconds = "60", bytes = "1024"] =
  process.argv;
setSpeed(Number(speed));
/** A busy machine may take longer than the clock allows for connecting. */
const TRIES = 5;

async function connected(tries = TRIES): Promise<Device> {
  try {
    return await Device.connect({
      edge,
      address,
      transport: transport as TransportName,
      token,
      onReconnect: ({ message }) => console.log(`lost: ${message}`),
    });
  } catch (error) {
    if (tries === 1) throw error;
    return connected(tries - 1);
  }
}

const device = await connected();
let sent = 0;
const body = new Uint8Array(Number(bytes));

async function take(): Promise<void> {
  for await (const message of device.messages()) await message.done();
}

function send(): void {
  setTimeout(() => {
    void device.send(peer ?? "", body).then(() => (sent += 1));
    send();
  }, Number(seconds) * 1000);
}

void take();
console.log("connected");
if (peer !== undefined) send();
process.stdin.resume().on("end", () => {
  console.log(`sent ${sent}`);
  process.exit(0);
});
