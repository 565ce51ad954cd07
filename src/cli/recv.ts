/** `grooveway recv`: what was sent to this device. */
import { Device, type Message } from "../device/index.ts";
import { type Command, parse, usage } from "./arguments.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "./connection.ts";
import { FileReceiver, isFile } from "./files.ts";
import { size } from "./output.ts";
import { untilInterrupted } from "./signals.ts";

export const recvCommand: Command = {
  help: `Usage: grooveway recv [options]

Receives the next file or message that was sent to this device or its identity, and ends. Files are written under their
own names and never over an existing file; other messages are printed.

${CONNECTION_HELP}
  --follow              go on receiving until interrupted
  --out DIR             folder for files; default the current one
  --json                print a JSON object for each

Example: grooveway recv --edge https://edge.example.com --relay relay.example.com --as bob/laptop --follow --out inbox`,

  async run(args) {
    const { values, positionals } = parse("recv", args, {
      ...CONNECTION_OPTIONS,
      follow: { type: "boolean", default: false },
      out: { type: "string", default: "." },
      json: { type: "boolean", default: false },
    });
    if (positionals.length > 0) throw usage("recv", `${positionals[0]} is not an option`);
    const device = await Device.connect(deviceOptions("recv", values));
    void untilInterrupted().then(() => device.close());
    if (!values.json && process.stderr.isTTY) console.error(`${device.address} is connected by ${device.transport}`);
    const files = new FileReceiver(values.out);
    try {
      for await (const message of device.messages()) {
        const shown = isFile(message) ? await fileOf(files, message) : messageOf(message);
        // Only now may it be forgotten by the relay: it is on the disk, or on the screen.
        message.done();
        if (shown === undefined) continue;
        console.log(values.json ? JSON.stringify(shown.json) : shown.line);
        if (!values.follow) break;
      }
      return 0;
    } finally {
      await files.close();
      await device.close();
    }
  },
};

interface Shown {
  readonly line: string;
  readonly json: Record<string, unknown>;
}

async function fileOf(files: FileReceiver, message: Message): Promise<Shown | undefined> {
  const file = await files.take(message);
  return (
    file && {
      line: `received ${file.path} from ${senderOf(message)}: ${size(file.octets)}, sha256 ${file.sha256}`,
      json: { event: "file", ...file, vouched: message.vouched },
    }
  );
}

function messageOf(message: Message): Shown {
  const text = message.text();
  return {
    line: `${senderOf(message)}: ${text}`,
    json: {
      event: "message",
      id: message.id,
      from: message.from,
      vouched: message.vouched,
      resource: message.resource,
      text,
    },
  };
}

function senderOf({ from, vouched }: Message): string {
  if (from === undefined) return "somebody";
  return vouched ? from : `${from} (as the sender says)`;
}
