/** A device with an accelerated clock that sends a small and then a large message, and prints its reports. */
import "../../../support/fast-clock.ts";
import { Device, type DeviceOptions } from "../../../../src/device/index.ts";

const options = JSON.parse(process.argv[2] ?? "{}") as Partial<DeviceOptions>;
const octets = Number(process.argv[3]);

const device = await Device.connect({
  address: "alice/pc",
  receive: false,
  ...options,
  onReconnect: ({ code, message }) => console.log(`lost: ${message} [${code}]`),
});
await device.send("bob", "small");
console.log("sent small");
await device.send("bob", new Uint8Array(octets));
console.log("sent large");
await device.close();
