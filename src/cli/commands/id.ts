/** `grooveway id`: shows the fingerprint of this user's devices. */
import { formatFingerprint } from "../../device/index.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { FileKeyring } from "../keyring/file-keyring.ts";
import { type Command, parse, unexpected } from "../parse-arguments.ts";

export const idCommand: Command = {
  help: `Usage: grooveway id

Prints the fingerprint of the key with which the devices of this user open and accept streams: all of the public key, for
people to compare. The secret key is made on first use, in the folder of the profiles.

Example: grooveway id`,

  async run(args) {
    const { positionals } = parse("id", args, {});
    if (positionals.length > 0) throw unexpected("id", positionals[0]);
    console.log(formatFingerprint(new FileKeyring().publicKey));
    return EXIT_CODES.Done.status;
  },
};
