/** `grooveway login`: checks a token with its edge, and keeps it in a profile. */
import { resolve } from "node:path";
import { decodeJwt } from "jose";
import { TOKEN_OCTETS } from "../../auth/limits.ts";
import { has, mayUse, type Rights, readRights } from "../../auth/scopes.ts";
import type { Proxies } from "../../device/index.ts";
import { CAPABILITIES, TRANSPORTS } from "../../device/index.ts";
import { tokenRefusal } from "../../device/token-refusal.ts";
import { tokenFrom } from "../../device/token-source.ts";
import { askEdge, type EdgeAnswer } from "../../device/transports/ask-edge.ts";
import { askName } from "../../device/transports/ask-name.ts";
import { edgeDialler } from "../../device/transports/edge-dialler.ts";
import { visible } from "../../lib/printable.ts";
import { parseAddress } from "../../sstp/index.ts";
import { CommandError } from "../command-error.ts";
import { defaultAddress, ownAddress, transportName } from "../device-options.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { plainNotice } from "../plain-notice.ts";
import { changeProfiles, neededConfigPath, readProfiles } from "../profiles/config-file.ts";
import { edgeUrl, type Profile, type ProfileEdge, type Profiles } from "../profiles/config-toml.ts";
import { DEFAULT_PROFILE, edgeIn, PROFILE_OPTION, profileName, tokenOf } from "../profiles/profile-options.ts";
import { PROXY_OPTIONS, proxiesOf } from "../proxy-options.ts";
import { readAuthorities } from "../tls.ts";

/** Transports to an edge. */
const OF_EDGES = TRANSPORTS.filter((name) => CAPABILITIES[name].carriesToken);

export const loginCommand: Command = {
  help: `Usage: grooveway login URL [options]
       grooveway login --list [--json]

Checks a token with the edge at URL, and keeps URL, address and token in a profile. From then on send, recv and mailbox
need none of the three. The token goes to this edge and to no other. Profiles are in ~/.config/grooveway/config.toml,
which only this user can read. To renew a token, log in again; commands that are running take the new one.

  --as IDENTITY/DEVICE        this device's address; default that of the profile or of the token,
                              or ${defaultAddress()}
  --token TOKEN|@FILE|@-      the token; @- reads it from standard input. Default the environment variable GROOVEWAY_TOKEN.
                              Other users of this machine can see the command line, so prefer a file or standard input
  --profile NAME              the profile to write; default GROOVEWAY_PROFILE, or ${DEFAULT_PROFILE}, which is used when none is named
  --transport NAME            auto, ${OF_EDGES.join(", ")}; kept in the profile,
                              unless it is auto
  --proxy URL|@FILE, --proxy-credentials FILE
                              connect through a proxy, as send and recv do; not kept in the profile
  --ca FILE                   certificate authorities to trust in addition to the system's, for this edge (PEM)
  --list                      show the profiles, without their tokens
  --json                      print JSON

Example: grooveway login https://edge.example.com --as alice/laptop --token @alice.token
         grooveway send bob/laptop report.pdf`,

  async run(args) {
    const { values, positionals } = parse("login", args, {
      ...PROFILE_OPTION,
      as: { type: "string" },
      token: { type: "string" },
      transport: { type: "string" },
      ca: { type: "string" },
      ...PROXY_OPTIONS,
      list: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    const [text, ...more] = positionals;
    if (more.length > 0) throw unexpected("login", more[0]);
    const path = neededConfigPath();
    if (values.list) {
      if (text !== undefined) throw usage("login", "--list takes no URL");
      for (const [name, profile] of readProfiles(path)) console.log(listed(name, profile, values.json));
      return EXIT_CODES.Done.status;
    }
    const name = profileName(values);
    const url = edgeUrl(text ?? "");
    if (url === undefined) {
      const what = text === undefined ? "the URL is missing" : "the URL is not that of an edge";
      throw usage("login", `${what}: write https://edge.example.com`);
    }
    const before = readProfiles(path).get(name);
    checkEdge(name, before, url);
    const chosen = values.transport === undefined ? before?.transport : transportName("login", values.transport);
    const transport = chosen === "auto" ? undefined : chosen;
    if (transport !== undefined && !CAPABILITIES[transport].carriesToken) {
      throw usage(
        "login",
        `--transport ${transport} connects past an edge: choose auto or one of ${OF_EDGES.join(", ")}`,
      );
    }
    const ca = values.ca === undefined ? before && edgeIn(before, url)?.ca : resolve(values.ca);
    const token = await tokenText(values.token ?? process.env.GROOVEWAY_TOKEN ?? "");
    const known = before?.address ?? addressIn(token);
    const address = ownAddress("login", values.as ?? known ?? defaultAddress());
    const notice = plainNotice({ edges: [url], hasToken: token !== undefined });
    if (notice !== undefined) console.error(`grooveway: ${notice}`);
    const authorities = ca === undefined ? undefined : readAuthorities(ca);
    const claim = { url, address, token, ca: authorities, proxies: proxiesOf("login", values) };
    const kind = await check(claim);
    const unknownName = kind === "device" ? await nameProblem(claim) : undefined;
    const edge = { url, ...(token !== undefined && { token }), ...(ca !== undefined && { ca }) };
    // An operator needs no address.
    const isKept = kind === "device" || values.as !== undefined || known !== undefined;
    const settings = { ...(isKept && { address }), ...(transport !== undefined && { transport }) };
    await changeProfiles(path, (profiles) => {
      checkEdge(name, profiles.get(name), url);
      return withEdge(profiles, name, edge, settings);
    });
    const own = kind === "device" ? { address } : {};
    if (values.json) {
      console.log(JSON.stringify({ event: "login", profile: name, edge: url, ...own, kind, file: path }));
    } else {
      const how = name === DEFAULT_PROFILE ? "" : ` (use it with --profile ${name})`;
      const place = `the profile ${name} is in ${visible(path)}${how}`;
      console.log(`logged in to ${url} as ${own.address ?? "an operator"}; ${place}`);
    }
    if (unknownName !== undefined) console.error(`grooveway: ${unknownName}`);
    return EXIT_CODES.Done.status;
  },
};

/**
 * Checks that a profile may get this edge. Another edge would take the place of the profile's own, with its token.
 *
 * @throws CommandError WrongEdge
 */
function checkEdge(name: string, profile: Profile | undefined, url: string): void {
  if (profile === undefined || edgeIn(profile, url) !== undefined) return;
  const edges = profile.edges.map((edge) => edge.url).join(" and ");
  const out = `grooveway logout${name === DEFAULT_PROFILE ? "" : ` --profile ${name}`}`;
  throw new CommandError(
    "WrongEdge",
    `the profile ${name} is for ${edges}, not for ${url}: choose another --profile, or remove this one with ${out}`,
  );
}

/** Returns the address that a token is for, if it is one address and no pattern. */
function addressIn(token: string | undefined): string | undefined {
  const { address } = (token === undefined ? undefined : rightsIn(token)) ?? {};
  return address?.includes("*") ? undefined : address;
}

/** Adds an edge to a profile, in the place of what the profile had for that URL. */
function withEdge(profiles: Profiles, name: string, edge: ProfileEdge, settings: Omit<Profile, "edges">): Profiles {
  const [first = edge, ...others] = (profiles.get(name)?.edges ?? []).map((known) =>
    known.url === edge.url ? edge : known,
  );
  return new Map(profiles).set(name, { ...settings, edges: [first, ...others] });
}

function listed(name: string, { address, transport, edges }: Profile, json: boolean): string {
  const urls = edges.map(({ url }) => url);
  if (json) return JSON.stringify({ profile: name, address, transport, edges: urls });
  return `${name}  ${address ?? "operator"}  ${urls.join(" ")}`;
}

/**
 * Reads the token.
 *
 * @returns undefined for an empty text: an edge for development needs no token
 * @throws CommandError CannotRead, Usage; DeviceError InvalidOption
 */
async function tokenText(text: string): Promise<string | undefined> {
  if (text === "") return undefined;
  const token = text === "@-" ? await standardInput() : (tokenOf(text)?.() ?? "");
  if (token === "") throw usage("login", `${text === "@-" ? "standard input" : text.slice(1)} is empty: give a token`);
  if (token.length > TOKEN_OCTETS) throw usage("login", `the token has over ${TOKEN_OCTETS} characters: check --token`);
  return tokenFrom(token, new AbortController().signal);
}

async function standardInput(): Promise<string> {
  if (process.stdin.isTTY) console.error("grooveway: paste the token, and press Enter and Ctrl-D");
  let all = "";
  for await (const chunk of process.stdin) {
    all += chunk;
    // What is longer is no token.
    if (all.length > 2 * TOKEN_OCTETS) break;
  }
  return all.trim();
}

interface Claim {
  readonly url: string;
  readonly address: string;
  readonly token: string | undefined;
  readonly ca: string | undefined;
  readonly proxies: Proxies;
}

/**
 * Asks the edge whether the token is good for the address, and returns what it is good for.
 *
 * It asks for the rule of the address's mailbox. Connecting as a device would end the connection of a device that runs
 * with this address. A token without the scope `receive` is refused with `ScopeMissing`, but only after the edge has
 * verified it; then its own claims can be trusted.
 *
 * @throws CommandError Refused; DeviceError
 */
async function check({ url, address, token, ca, proxies }: Claim): Promise<"device" | "operator"> {
  const dialler = edgeDialler(url, proxies, ca);
  const ask = (path: string, expects: (value: unknown) => boolean) =>
    askEdge({ edge: new URL(url), path, token, ca, dialler, expects });
  const mailbox = `/mailboxes/${encodeURIComponent(address)}`;
  const answer = await ask(`${mailbox}/rule`, isMailbox);
  const parsed = parseAddress(address);
  const self = parsed.ok ? parsed.value : undefined;
  const rights = token === undefined ? undefined : rightsIn(token);
  const mayConnect = rights !== undefined && self !== undefined && has(rights, "connect") && mayUse(rights, self);
  if (answer.ok || (answer.code === "ScopeMissing" && mayConnect)) return "device";
  const { code, detail } = answer;
  const isPerhapsAdmin = token !== undefined && ["ScopeMissing", "TokenInvalid", "NoKeys"].includes(code);
  if (isPerhapsAdmin && (await ask(`/admin${mailbox}`, isMailbox)).ok) return "operator";
  throw tokenRefusal(code, { detail, token, address: self, name: new URL(url).hostname }) ?? refused(answer);
}

/**
 * Returns what is wrong if devices cannot name the edge by the host in its URL; undefined if they can.
 *
 * @throws DeviceError
 */
async function nameProblem({ url, token, ca, proxies }: Claim): Promise<string | undefined> {
  const edge = new URL(url);
  const answer = await askName({ edge, token, ca, dialler: edgeDialler(url, proxies, ca) });
  if (answer.type === "known") return undefined;
  if (answer.type === "malformed") return `send and recv cannot use the host in this URL: ${answer.problems}`;
  const { hostname } = edge;
  const problem = `the edge does not know itself as ${hostname}, and will refuse send and recv`;
  const cure = `ask its operator to give it this name (--name ${hostname})`;
  const { edgeName } = answer;
  if (edgeName === undefined) return `${problem}: ${cure}`;
  return `${problem}: log in with a URL that has its name, ${edgeName}, or give them --edge ${url} --relay ${edgeName}, or ${cure}`;
}

function refused({ code, detail, cure }: Extract<EdgeAnswer, { ok: false }>): CommandError {
  return new CommandError("Refused", `${`${detail} ${cure}`.trim()} [${code}]`);
}

/** Returns what a token claims, without verifying it; undefined if it cannot be read. */
function rightsIn(token: string): Rights | undefined {
  try {
    const { address, scope } = decodeJwt(token);
    const rights = readRights({ address, scope });
    return rights.ok ? rights.value : undefined;
  } catch {
    return undefined;
  }
}

function isMailbox(value: unknown): boolean {
  return typeof (value as { readonly peer?: unknown } | null)?.peer === "string";
}
