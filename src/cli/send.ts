/** `grooveway send`: a file to a device. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { Device } from "../device/index.ts";
import { type Command, parse, usage } from "./arguments.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions, rate } from "./connection.ts";
import { sendFile } from "./files.ts";
import { CommandError, progressBar, size } from "./output.ts";

export const sendCommand: Command = {
  help: `Usage: grooveway send [options] ADDRESS FILE

Sends a file, or standard input when FILE is -, to IDENTITY or IDENTITY/DEVICE. It returns when the relay has all of it
safe; the recipient may come later.

${CONNECTION_HELP}
  --name NAME           the file's name at the recipient; default its own, stdin for -
  --json                print one JSON object when it is sent

Example: tar c photos | grooveway send --edge https://edge.example.com --relay relay.example.com bob/laptop - --name photos.tar`,

  async run(args) {
    const { values, positionals } = parse("send", args, {
      ...CONNECTION_OPTIONS,
      name: { type: "string" },
      json: { type: "boolean", default: false },
    });
    const [address, path, ...more] = positionals;
    if (address === undefined || path === undefined) throw usage("send", "an ADDRESS and a FILE are needed");
    if (more.length > 0) throw usage("send", `${more[0]} is one argument too many`);
    const { source, total } = await openSource(path);
    const device = await Device.connect({ ...deviceOptions("send", values), receive: false });
    const bar = progressBar(`to ${address}`);
    const started = performance.now();
    try {
      const name = values.name ?? (path === "-" ? "stdin" : basename(path));
      const sent = await sendFile(device, address, name, source, total, (octets) => bar.update(octets, total));
      bar.end();
      const milliseconds = performance.now() - started;
      if (values.json) console.log(JSON.stringify({ event: "sent", to: address, ...sent, milliseconds }));
      else
        console.log(
          `sent ${sent.name} to ${address}: ${size(sent.octets)} at ${rate(sent.octets, milliseconds)}, sha256 ${sent.sha256}`,
        );
      return 0;
    } finally {
      bar.end();
      await device.close();
    }
  },
};

/** The octets of a file, or of standard input for `-`. */
export async function openSource(
  path: string,
): Promise<{ source: AsyncIterable<Uint8Array>; total: number | undefined }> {
  if (path === "-") return { source: process.stdin, total: undefined };
  try {
    const found = await stat(path);
    if (found.isDirectory())
      throw new CommandError("CannotRead", `${path} is a folder: pack it first, for example with tar`);
    return {
      source: createReadStream(path, { highWaterMark: 1024 * 1024 }),
      total: found.isFile() ? found.size : undefined,
    };
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new CommandError(
      "CannotRead",
      code === "ENOENT" ? `there is no file ${path}` : `cannot read ${path} (${code})`,
    );
  }
}
