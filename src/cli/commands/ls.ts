/** `grooveway ls`: lists what a device exposes to this one. */
import { CommandError } from "../command-error.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { isExposedName, LISTING } from "../streams/stream-address.ts";
import { withStreamDevice } from "../streams/stream-device.ts";

/** The longest list that is read, in bytes: a thousand names. */
const LONGEST_LIST = 64 * 1024;

/** How long to wait for the other device, in milliseconds. */
const TIMEOUT = 30_000;

export const lsCommand: Command = {
  help: `Usage: grooveway ls [options] ADDRESS

Lists the services that a device exposes to this one, a name on each line.

${CONNECTION_HELP}

Example: grooveway ls --edge https://edge.example.com --as alice/laptop office/desk`,

  async run(args) {
    const { values, positionals } = parse("ls", args, CONNECTION_OPTIONS);
    const [address, ...more] = positionals;
    if (address === undefined) throw usage("ls", "name the device: ADDRESS");
    if (more.length > 0) throw unexpected("ls", more[0]);
    const interrupted = untilInterrupted();
    const options = deviceOptions("ls", values);
    return withStreamDevice({ options, interrupted, isEndless: false }, async ({ device, signal }) => {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]);
      const { readable } = await device.dial(address, LISTING, { signal: limit });
      const pieces: Uint8Array[] = [];
      let octets = 0;
      for await (const piece of readable) {
        pieces.push(piece);
        octets += piece.length;
        if (octets > LONGEST_LIST) break;
      }
      for (const name of namesIn(Buffer.concat(pieces).toString())) console.log(name);
      return EXIT_CODES.Done.status;
    });
  },
};

/** The names in a list that another device has written. */
function namesIn(text: string): readonly string[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    list = undefined;
  }
  const names: unknown[] = Array.isArray(list) ? list : [undefined];
  if (names.every((name): name is string => typeof name === "string" && isExposedName(name))) return names;
  throw new CommandError("Corrupted", "the other device has sent no list of services: upgrade the older of the two");
}
