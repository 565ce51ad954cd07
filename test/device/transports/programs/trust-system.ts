/** Connects twice by TLS, trusting what the system does, and perhaps one more authority. Prints the outcomes. */
import { readFileSync } from "node:fs";
import { DeviceError } from "../../../../src/device/device-error.ts";
import { dial } from "../../../../src/device/transports/dial.ts";

const [port = "", file] = process.argv.slice(2);
const ca = file === undefined ? undefined : readFileSync(file, "utf8");
const outcomes: string[] = [];
for (let times = 0; times < 2; times += 1) {
  try {
    const socket = await dial({ host: "127.0.0.1", port: Number(port), secure: true, ca });
    socket.destroy();
    outcomes.push("connected");
  } catch (error) {
    outcomes.push(error instanceof DeviceError ? error.code : String(error));
  }
}
console.log(outcomes.join(" "));
