/** `grooveway ls`: lists what a device exposes to this one. */
import { CommandError } from "../command-error.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions, instanceAddress } from "../device-options.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { parseListing } from "../streams/exposed.ts";
import { PLAIN_HELP, PLAIN_OPTION } from "../streams/plain-option.ts";
import { LISTING } from "../streams/stream-address.ts";
import { withStreamDevice } from "../streams/stream-device.ts";

/** The longest list that is read, in bytes: more than the longest file of grooveway connect holds. */
const LONGEST_LIST = 1024 * 1024;

/** How long to wait for the other device, in milliseconds. */
const TIMEOUT = 30_000;

export const lsCommand: Command = {
  help: `Usage: grooveway ls [options] ADDRESS

Lists what a device exposes to this one: the name of each service on a line, then a line such as --socks git.example.com:22
for each destination that grooveway forward --socks reaches there.

${CONNECTION_HELP}
${PLAIN_HELP}

Example: grooveway ls --edge https://edge.example.com --as alice/laptop office/desk`,

  async run(args) {
    const { values, positionals } = parse("ls", args, { ...CONNECTION_OPTIONS, ...PLAIN_OPTION });
    const [address, ...more] = positionals;
    if (address === undefined) throw usage("ls", "name the device: ADDRESS");
    if (more.length > 0) throw unexpected("ls", more[0]);
    const interrupted = untilInterrupted();
    const given = deviceOptions("ls", values);
    // So that it does not end a connection of this device that is in use.
    const options = { ...given, address: instanceAddress(given.address), plain: values.plain };
    return withStreamDevice({ options, interrupted, isEndless: false }, async ({ device, signal }) => {
      const timeout = AbortSignal.timeout(TIMEOUT);
      const limit = AbortSignal.any([signal, timeout]);
      const { readable } = await device.dial(address, LISTING, { signal: limit }).catch((error: unknown) => {
        throw timeout.aborted && !signal.aborted ? noAnswer(address, device.address) : error;
      });
      const pieces: Uint8Array[] = [];
      let octets = 0;
      for await (const piece of readable) {
        pieces.push(piece);
        octets += piece.length;
        if (octets > LONGEST_LIST) break;
      }
      const listing = parseListing(Buffer.concat(pieces).toString());
      if (listing === undefined) {
        throw new CommandError(
          "Corrupted",
          "the other device has sent no list of services: upgrade the older of the two",
        );
      }
      for (const name of listing.services) console.log(name);
      for (const text of listing.destinations) console.log(`--socks ${text}`);
      return EXIT_CODES.Done.status;
    });
  },
};

function noAnswer(address: string, own: string): CommandError {
  return new CommandError(
    "NoAnswer",
    `${address} has not answered within ${TIMEOUT / 1000} s: check that grooveway expose runs there, and that its token has the scope stream:${own}`,
  );
}
