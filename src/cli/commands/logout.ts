/** `grooveway logout`: removes a profile. */
import { visible } from "../../lib/printable.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { type Command, parse, unexpected } from "../parse-arguments.ts";
import { changeProfiles, neededConfigPath, readProfiles } from "../profiles/config-file.ts";
import { noProfile, PROFILE_OPTION, profileName } from "../profiles/profile-options.ts";

export const logoutCommand: Command = {
  help: `Usage: grooveway logout [--profile NAME]

Removes a profile of grooveway login, with its token, from this machine. The token itself stays valid until it expires or
the operator of the edge revokes it.

  --profile NAME   the profile; default GROOVEWAY_PROFILE, or default

Example: grooveway logout --profile work`,

  async run(args) {
    const { values, positionals } = parse("logout", args, PROFILE_OPTION);
    if (positionals.length > 0) throw unexpected("logout", positionals[0]);
    const name = profileName(values);
    const path = neededConfigPath();
    const profiles = readProfiles(path);
    if (!profiles.has(name)) throw noProfile(path, name, profiles);
    await changeProfiles(path, (before) => new Map([...before].filter(([other]) => other !== name)));
    console.log(`removed the profile ${name} from ${visible(path)}`);
    return EXIT_CODES.Done.status;
  },
};
