/** `grooveway trust`: whose devices may open streams here, and which keys are pinned. */
import { formatFingerprint, isSameKey, parseFingerprint } from "../../device/index.ts";
import { printable } from "../../lib/printable.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { FileKeyring } from "../keyring/file-keyring.ts";
import {
  isAccepted,
  isDevice,
  isPattern,
  matchesAddress,
  pinOf,
  type TrustLine,
  withAccepted,
  withoutAccepted,
  withoutPin,
  withPin,
} from "../keyring/trust-text.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";

export const trustCommand: Command = {
  help: `Usage: grooveway trust ADDRESS FINGERPRINT
       grooveway trust --pin ADDRESS FINGERPRINT
       grooveway trust [--pending] | --remove ADDRESS | --unpin ADDRESS

Lets the device with this address and key open streams to the services that this user exposes. An address may be a pattern:
alice/* or alice for all devices of alice. Without arguments it lists what is trusted. Running commands follow within a
second.

Which key a device must have when this user dials it is another matter. That key is pinned when the device is first dialed;
if it has a new one, --pin pins that, and does not let the device open streams here.

  --pin              pin the key that the device must have when it is dialed
  --pending          list devices that were refused because their key is unknown
  --remove ADDRESS   let nothing under this address open streams here any more; its running streams end
  --unpin ADDRESS    forget which key the device must have when it is dialed; running streams to it end

Example: grooveway trust alice/laptop "$(ssh alice grooveway id)"`,

  async run(args) {
    const { values, positionals } = parse("trust", args, {
      pending: { type: "boolean", default: false },
      pin: { type: "boolean", default: false },
      remove: { type: "string" },
      unpin: { type: "string" },
    });
    const [address, ...words] = positionals;
    const { pending, pin, remove, unpin } = values;
    const asked = [
      pin && "--pin",
      pending && "--pending",
      remove !== undefined && "--remove",
      unpin !== undefined && "--unpin",
    ];
    const [first, second] = asked.filter((option) => option !== false);
    if (second !== undefined) throw usage("trust", `${first} and ${second} are two commands: give one of them`);
    if (first !== undefined && !pin && address !== undefined) throw unexpected("trust", address);
    const keyring = new FileKeyring();
    if (remove !== undefined) forget(keyring, "--remove", remove);
    else if (unpin !== undefined) forget(keyring, "--unpin", unpin);
    else if (address !== undefined) {
      const key = keyIn(words);
      if (pin) setPin(keyring, address, key);
      else accept(keyring, address, key);
    } else if (pin) throw usage("trust", "--pin: give the address of the device and its fingerprint");
    else for (const line of keyring.lines()) if ((line.kind === "pending") === pending) console.log(textOf(line));
    return EXIT_CODES.Done.status;
  },
};

function keyIn(words: readonly string[]): Uint8Array {
  // A person may copy a fingerprint in groups.
  const key = parseFingerprint(words.join(""));
  if (key !== undefined) return key;
  throw usage("trust", `${printable(words.join(" "))} is no fingerprint: give the line that grooveway id prints there`);
}

function accept(keyring: FileKeyring, address: string, key: Uint8Array): void {
  if (!isPattern(address)) {
    throw usage("trust", `${printable(address)} is neither an address nor a pattern of addresses`);
  }
  keyring.change((lines) => withAccepted(lines, address, key));
  console.log(`${address} may open streams here with the key ${formatFingerprint(key)}`);
  const pin = pinOf(keyring.lines(), address);
  if (pin === undefined || isSameKey(pin, key)) return;
  console.log(`when it is dialed it must still have the key ${formatFingerprint(pin)}, unless you give --pin`);
}

function setPin(keyring: FileKeyring, address: string, key: Uint8Array): void {
  if (!isPattern(address) || !isDevice(address)) {
    throw usage("trust", `--pin: ${printable(address)} is not one device: write IDENTITY/DEVICE`);
  }
  keyring.change((lines) => withPin(lines, address, key));
  console.log(`${address} must have the key ${formatFingerprint(key)} when it is dialed`);
  console.log(`opening streams here is another matter: ${acceptance(keyring.lines(), address, key)}`);
}

/** Whether a device may dial. */
function acceptance(lines: readonly TrustLine[], address: string, key: Uint8Array): string {
  if (isAccepted(lines, address, key)) return "it may, with this key";
  const rule = lines.find((line) => line.kind === "accept" && matchesAddress(line.address, address));
  if (rule === undefined) return "it may not";
  return `it may with the key ${formatFingerprint(rule.key)}, until you give --remove ${rule.address}`;
}

function forget(keyring: FileKeyring, option: "--remove" | "--unpin", address: string): void {
  const without = option === "--remove" ? withoutAccepted : withoutPin;
  const before = keyring.lines();
  if (without(before, address).length === before.length) {
    const what = option === "--remove" ? "is accepted" : "is pinned";
    throw usage("trust", `${option} ${printable(address)}: nothing ${what} under this address`);
  }
  keyring.change((lines) => without(lines, address));
}

function textOf({ kind, address, key }: TrustLine): string {
  return `${kind.padEnd(7)}  ${formatFingerprint(key)}  ${address}`;
}
