/**
 * Why a token does not do, in words for whoever has it. Edge and relay give the name of a reason; what the token itself
 * says, which its bearer can read as well as they can, tells what is missing.
 *
 * @module
 */
import { addressee, maySend, mayUse, type Peer, parseRights, type Rights } from "../auth/scopes.ts";
import { visible } from "../lib/printable.ts";
import { formatAddress } from "../sstp/index.ts";
import { DeviceError } from "./device-error.ts";

/** What is known of a token that was refused, and of who has refused it. */
export interface RefusedToken {
  /** Default: the edge. */
  readonly by?: "edge" | "relay" | undefined;
  /** What was found wrong, as far as it was said: a whole sentence. */
  readonly detail?: string | undefined;
  readonly token?: string | undefined;
  /** The device's own address. */
  readonly address?: Peer | undefined;
  /** The name that it means the edge or relay by. */
  readonly name?: string | undefined;
}

type Text = (refused: Required<Pick<RefusedToken, "by">> & RefusedToken, claims: Claims | undefined) => string;

const TEXTS: Readonly<Record<string, Text>> = {
  TokenNeeded: ({ by }) =>
    `the ${by} asks for a token: get one from its operator, and give it by --token @FILE, GROOVEWAY_TOKEN or the option token`,
  TokenInvalid: (refused) =>
    `the ${refused.by} cannot verify the token${why(refused)}: get a new one from its operator`,
  TokenExpired: (_, claims) => `the token has expired${claims?.expired ?? ""}: get a new one`,
  TokenNotYetValid: (refused) => `the token is not valid yet${why(refused)}: wait, or set the clocks right`,
  TokenRevoked: ({ by }) => `the token was revoked: ask the operator of the ${by} for a new one`,
  WrongAudience: ({ by, name }, claims) => {
    const whose = claims?.audience === undefined ? `another ${by}` : claims.audience;
    const own = name === undefined ? "" : ` (grooveway token issue --audience ${name})`;
    return `the token is for ${whose}, and not for this ${by}: get one for it${own}`;
  },
  ScopeMissing: (refused, claims) => scopeMissing(refused, claims),
};

/**
 * The error for a reason of an edge or relay; undefined when it is not about a token. The same token will not do later
 * either.
 */
export function tokenRefusal(reason: string | undefined, refused: RefusedToken = {}): DeviceError | undefined {
  const text = reason !== undefined && Object.hasOwn(TEXTS, reason) ? TEXTS[reason] : undefined;
  if (text === undefined) return undefined;
  const words = text({ ...refused, by: refused.by ?? "edge" }, claimsOf(refused.token));
  return new DeviceError("TokenRefused", `${words} [${reason}]`);
}

/**
 * A recipient was refused, and the token allows nothing else: the error that says which scope is missing. Otherwise the
 * error as it is.
 */
export function sendRefusal(
  error: DeviceError,
  token: string | undefined,
  recipient: { readonly identityURL: string; readonly deviceURL: string },
): DeviceError {
  if (error.code !== "RecipientRefused") return error;
  const claims = claimsOf(token);
  const peer = addressee(recipient);
  if (claims === undefined || peer === undefined || maySend(claims.rights, peer)) return error;
  const to = formatAddress(peer);
  const text = `the token lacks the scope send:${to}: ${getScope(claims, `send:${to}`)} [ScopeMissing]`;
  return new DeviceError(error.code, text, { cause: error });
}

function why({ detail }: RefusedToken): string {
  return detail === undefined ? "" : ` (${detail.replace(/\.$/, "")})`;
}

function scopeMissing({ address, detail }: RefusedToken, claims: Claims | undefined): string {
  if (claims !== undefined && !claims.rights.connect)
    return `the token lacks the scope connect: ${getScope(claims, "connect")}`;
  if (claims !== undefined && address !== undefined && !mayUse(claims.rights, address)) {
    const own = claims.rights.address === undefined ? "no address" : `the address ${visible(claims.rights.address)}`;
    return `the token is for ${own}, and this device is ${formatAddress(address)}: give the right address (--as), or get a token for this one`;
  }
  return `the token does not allow this${why({ detail })}: get one with this device's address and the scopes connect and receive`;
}

/** How to come by a token with one more scope. */
function getScope({ scope }: Claims, missing: string): string {
  const all = [...scope.split(" "), missing].filter((word) => word !== "").join(" ");
  return `get one with it (grooveway token issue --scope '${visible(all)}')`;
}

/** What a token says. */
interface Claims {
  readonly scope: string;
  readonly rights: Rights;
  /** Whom it is for, as text. */
  readonly audience: string | undefined;
  /** ` on ...`, when it says until when it is good. */
  readonly expired: string;
}

/** Undefined for what cannot be read. Nothing is verified. */
function claimsOf(token: string | undefined): Claims | undefined {
  try {
    const [, payload = ""] = token?.split(".") ?? [];
    const {
      scope = "",
      address,
      aud,
      exp,
    } = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
    const rights = parseRights({ address, scope });
    const audience = [aud].flat().filter((name) => typeof name === "string");
    return {
      scope: String(scope),
      rights,
      audience: audience.length === 0 ? undefined : visible(audience.join(", ")),
      expired: typeof exp === "number" ? ` on ${new Date(exp * 1000).toISOString()}` : "",
    };
  } catch {
    return undefined;
  }
}
