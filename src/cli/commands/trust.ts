/** `grooveway trust`: whose devices may open streams here, and which keys are pinned. */
import { formatFingerprint, parseFingerprint } from "../../device/index.ts";
import { printable } from "../../lib/printable.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { FileKeyring } from "../keyring/file-keyring.ts";
import { isPattern, type TrustLine, withoutTrust, withTrust } from "../keyring/trust-text.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";

export const trustCommand: Command = {
  help: `Usage: grooveway trust ADDRESS FINGERPRINT
       grooveway trust [--pending] | --remove ADDRESS

Lets the device with this address and key open streams to the services that this user exposes. An address may be a pattern:
alice/* or alice for all devices of alice. If it names a single device, the key is also the one that the device must have
when it is dialed. Without arguments it lists what is trusted. Running commands follow within a second.

  --pending          list devices that were refused because their key is unknown
  --remove ADDRESS   trust nothing under this address any more; its running streams end

Example: grooveway trust alice/laptop "$(ssh alice grooveway id)"`,

  async run(args) {
    const { values, positionals } = parse("trust", args, {
      pending: { type: "boolean", default: false },
      remove: { type: "string" },
    });
    const [address, ...words] = positionals;
    const { pending, remove } = values;
    if ((pending || remove !== undefined) && address !== undefined) throw unexpected("trust", address);
    const keyring = new FileKeyring();
    if (remove !== undefined) {
      const before = keyring.lines();
      if (!before.some((line) => line.address === remove)) {
        throw usage("trust", `--remove ${printable(remove)}: nothing is trusted under this address`);
      }
      keyring.change((lines) => withoutTrust(lines, remove));
      return EXIT_CODES.Done.status;
    }
    if (address === undefined) {
      for (const line of keyring.lines()) if ((line.kind === "pending") === pending) console.log(textOf(line));
      return EXIT_CODES.Done.status;
    }
    // A person may copy a fingerprint in groups.
    const key = parseFingerprint(words.join(""));
    if (!isPattern(address))
      throw usage("trust", `${printable(address)} is neither an address nor a pattern of addresses`);
    if (key === undefined) {
      throw usage(
        "trust",
        `${printable(words.join(" "))} is no fingerprint: give the line that grooveway id prints there`,
      );
    }
    keyring.change((lines) => withTrust(lines, address, key));
    return EXIT_CODES.Done.status;
  },
};

function textOf({ kind, address, key }: TrustLine): string {
  return `${kind.padEnd(7)}  ${formatFingerprint(key)}  ${address}`;
}
