/**
 * What a profile adds to the options of a command.
 *
 * The profile is the one that --profile names, or GROOVEWAY_PROFILE, or `default` if there is one. An option wins over
 * the profile. Without --edge and --relay, the profile's edges are used. A token, like certificates to trust and a
 * transport, belongs to an edge of the profile: it goes to that edge and to no other, whatever the options say.
 *
 * The first of these tokens counts: --token, that of a profile named by --profile, GROOVEWAY_TOKEN, that of any other
 * profile.
 *
 * @module
 */

import { printable, visible } from "../../lib/printable.ts";
import { nearest } from "../../lib/spelling.ts";
import { CommandError } from "../command-error.ts";
import { readText } from "../parse-arguments.ts";
import { configPath, type Environment, neededConfigPath, readProfiles } from "./config-file.ts";
import { edgeUrl, isProfileName, PROFILE_NAME, type Profile, type ProfileEdge, type Profiles } from "./config-toml.ts";

/** The name of the profile that is used when none is named. */
export const DEFAULT_PROFILE = "default";

export const PROFILE_OPTION = { profile: { type: "string" } } as const;

/** Options that a profile may stand in for, as they are written. */
export interface ProfileOptions {
  readonly profile?: string | undefined;
  /** One edge, or several. */
  readonly edge?: string | readonly string[] | undefined;
  readonly relay?: string | undefined;
  readonly as?: string | undefined;
  readonly transport?: string | undefined;
  readonly token?: string | undefined;
  readonly ca?: string | undefined;
}

/** What is for one edge, or for a relay without an edge. */
interface Access {
  readonly edge: string | undefined;
  /** Returns the token, read anew on each call if it is in a file: a login may have renewed it. */
  readonly token: (() => string) | undefined;
  readonly ca: string | undefined;
}

/** The options, completed from the profile; edge, token and authorities are those of the first edge. */
export interface CompletedOptions extends Omit<ProfileOptions, keyof Access>, Access {
  /** All edges. */
  readonly edges: readonly (Access & { readonly edge: string })[];
}

/** What surrounds the command line. */
export interface ProfileSurroundings {
  /** The token in the environment. */
  readonly inherited: string | undefined;
  /** Prints a line for the user. Default: on standard error. */
  readonly tell?: (line: string) => void;
  /** Default: `process.env`. */
  readonly env?: Environment;
  /** How many of the profile's edges to use, if the options name none. Default all. */
  readonly most?: number;
}

/**
 * Completes options from the profile.
 *
 * @throws CommandError CannotRead, ConfigUnusable, NoConfigFolder, NoProfile; WrongEdge if --edge names an edge that the
 *   named profile is not for
 */
export function withProfile(
  options: ProfileOptions,
  { inherited, tell = (line) => console.error(`grooveway: ${line}`), env = process.env, most }: ProfileSurroundings,
): CompletedOptions {
  const chosen = chosenProfile(options, env);
  const given = options.edge === undefined ? undefined : [options.edge].flat();
  if (chosen === undefined) {
    const token = tokenOf(options.token ?? inherited ?? "");
    return completed(
      options,
      (given ?? [undefined]).map((edge) => ({ edge, token, ca: options.ca })),
    );
  }
  const { profile } = chosen;
  const own = options.relay === undefined ? profile.edges.slice(0, most).map(({ url }) => url) : [undefined];
  const edges = given ?? own;
  const all = edges.map((edge) => accessOf(edge, chosen, { options, inherited, tell }));
  // Each edge of the profile can be reached by its transport; another may not.
  const isOfProfile = edges.every((edge) => edge !== undefined && edgeIn(profile, edge) !== undefined);
  return {
    ...completed(options, all),
    as: options.as ?? profile.address,
    transport: options.transport ?? (isOfProfile ? profile.transport : undefined),
  };
}

function completed(options: ProfileOptions, all: readonly Access[]): CompletedOptions {
  const [first = { edge: undefined, token: undefined, ca: undefined }] = all;
  const edges = all.flatMap(({ edge, ...access }) => (edge === undefined ? [] : [{ edge, ...access }]));
  return { ...options, ...first, edges };
}

interface AccessSources {
  readonly options: ProfileOptions;
  readonly inherited: string | undefined;
  readonly tell: (line: string) => void;
}

/** What the options and the profile have for one edge. */
function accessOf(edge: string | undefined, chosen: Chosen, { options, inherited, tell }: AccessSources): Access {
  const { name, profile, path } = chosen;
  const own = edge === undefined ? undefined : edgeIn(profile, edge);
  // The environment is for every command, and --profile for this one.
  const isOverridden = options.profile !== undefined && own !== undefined;
  const given = options.token ?? (isOverridden ? undefined : inherited || undefined);
  if (given === undefined && own === undefined && edge !== undefined) {
    const whose = `the profile ${name} is for ${profile.edges.map(({ url }) => url).join(" and ")}`;
    // What is not the URL of an edge may contain a password.
    const other = edgeUrl(edge) ?? "another edge";
    if (chosen.isNamed) {
      const cure = "leave out --edge, choose another profile, or give --token";
      throw new CommandError("WrongEdge", `${whose}, not for ${other}: ${cure}`);
    }
    tell(`${whose}: its token is not sent to ${other}`);
  }
  const token =
    given === undefined && own?.token !== undefined ? profileToken(path, name, own.url) : tokenOf(given ?? "");
  return { edge, token, ca: options.ca ?? own?.ca };
}

/**
 * Returns the name of the profile that is to be written.
 *
 * @throws CommandError NoProfile if it cannot be a name
 */
export function profileName({ profile }: ProfileOptions): string {
  const name = namedProfile({ profile }, process.env) ?? DEFAULT_PROFILE;
  if (isProfileName(name)) return name;
  throw new CommandError("NoProfile", `${printable(name)} cannot name a profile: choose ${PROFILE_NAME}`);
}

/** Error for a profile that the file does not have. */
export function noProfile(path: string, name: string, profiles: Profiles): CommandError {
  const names = [...profiles.keys()];
  const meant = nearest(name, names);
  const there = names.length === 0 ? "there is none yet" : `there is ${names.join(", ")}`;
  const cure = meant === undefined ? `${there}; grooveway login makes one` : `did you mean ${meant}?`;
  return new CommandError("NoProfile", `${visible(path)} has no profile ${printable(name)}: ${cure}`);
}

/** Returns the edge of a profile that a URL means. */
export function edgeIn({ edges }: Profile, url: string): ProfileEdge | undefined {
  const wanted = edgeUrl(url);
  return edges.find((edge) => edge.url === wanted);
}

/**
 * Returns a function that yields the token. For `@FILE`, it reads the file anew on each call.
 *
 * @throws CommandError CannotRead
 */
export function tokenOf(text: string): (() => string) | undefined {
  if (text === "") return undefined;
  const read = () => (text.startsWith("@") ? readText(text.slice(1)) : text).trim();
  // Report a missing file now, not at the first connection.
  read();
  return read;
}

function namedProfile({ profile }: ProfileOptions, env: Environment): string | undefined {
  return profile ?? (env.GROOVEWAY_PROFILE || undefined);
}

interface Chosen {
  readonly path: string;
  readonly name: string;
  readonly profile: Profile;
  /** By --profile or GROOVEWAY_PROFILE. */
  readonly isNamed: boolean;
}

function chosenProfile(options: ProfileOptions, env: Environment): Chosen | undefined {
  const named = namedProfile(options, env);
  const path = named === undefined ? configPath(env) : neededConfigPath(env);
  if (path === undefined) return undefined;
  const profiles = readProfilesIfNeeded(path, options, named !== undefined);
  const name = named ?? DEFAULT_PROFILE;
  const profile = profiles.get(name);
  if (profile !== undefined) return { path, name, profile, isNamed: named !== undefined };
  if (named !== undefined) throw noProfile(path, named, profiles);
  return undefined;
}

/** A user who may not read the file, as in a home of somebody else, can do without as long as the options say enough. */
function readProfilesIfNeeded(path: string, { edge, relay }: ProfileOptions, isNamed: boolean): Profiles {
  try {
    return readProfiles(path);
  } catch (error) {
    const isEnough = !isNamed && (edge !== undefined || relay !== undefined);
    if (isEnough && error instanceof CommandError && error.code === "CannotRead") return new Map();
    throw error;
  }
}

function profileToken(path: string, name: string, url: string): () => string {
  const read = () => {
    const profiles = readProfiles(path);
    const profile = profiles.get(name);
    if (profile === undefined) throw noProfile(path, name, profiles);
    const { token = "" } = edgeIn(profile, url) ?? {};
    return tokenOf(token)?.() ?? "";
  };
  // As in tokenOf.
  read();
  return read;
}
