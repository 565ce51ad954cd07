/**
 * Authentication of HTTP requests by `Authorization: Bearer` [RFC 6750], for devices and operators.
 *
 * @module
 */

import { hasKeys } from "../../auth/key-set.ts";
import { ANYBODY, NOBODY, type Principal } from "../../auth/principal.ts";
import { has } from "../../auth/scopes.ts";
import { type Authentication, authenticate } from "../../auth/verify-token.ts";
import type { Env } from "../env.ts";
import type { Route } from "../origin/relay-access.ts";
import { parseDev } from "../policy/dev-setting.ts";
import type { Reason } from "../reasons.ts";
import { isEqual } from "../timing-safe-equal.ts";

/**
 * Authenticates a request of a virtual connection.
 *
 * A request without a token is admitted as `NOBODY` if the virtual connection ends at this edge, where Connect must
 * show a token, or if AUTH_ORIGIN is "origin", by which the operator leaves authentication to the origin relay.
 */
export async function admit(request: Request, env: Env, route: Route): Promise<Authentication> {
  if (!hasKeys(env)) return parseDev(env.DEV).open ? admitted(ANYBODY) : refused("NoKeys");
  const header = request.headers.get("Authorization");
  if (header === null) {
    return route === "mailbox" || env.AUTH_ORIGIN === "origin" ? admitted(NOBODY) : refused("TokenNeeded");
  }
  const answer = await bearer(header, env);
  if (answer.type === "ok" && !has(answer.principal.rights, "connect")) {
    return refused("ScopeMissing", "The token lacks the scope connect.");
  }
  return answer;
}

/**
 * Authenticates to the end even if the device resets its request, because others may wait for the keys that it fetches.
 */
export function admitWhole(
  request: Request,
  env: Env,
  route: Route,
  context: Pick<ExecutionContext, "waitUntil">,
): Promise<Authentication> {
  const admitted = admit(request, env, route);
  context.waitUntil(admitted);
  return admitted;
}

/** Authenticates a request that opens no virtual connection: what its token must allow depends on the request. */
export async function admitBearer(
  request: Request,
  env: Env,
  context: Pick<ExecutionContext, "waitUntil">,
): Promise<Authentication> {
  if (!hasKeys(env)) return parseDev(env.DEV).open ? admitted(ANYBODY) : refused("NoKeys");
  const header = request.headers.get("Authorization");
  if (header === null) return refused("TokenNeeded");
  // To the end, even if the client resets its request: others may wait for the keys that it fetches.
  const answer = bearer(header, env);
  context.waitUntil(answer);
  return answer;
}

/** The sender of a request, or why it is refused. */
export type Admission = Authentication | { readonly type: "refused"; readonly reason: Reason; readonly detail: string };

/**
 * Authenticates an operator, by ADMIN_TOKEN or by a token with one of the scopes.
 *
 * @param scopes that suffice; the last is named to a token that has none of them
 */
export async function admitOperator(
  request: Request,
  env: Env,
  scopes: readonly ("admin" | "metrics")[] = ["admin"],
): Promise<Admission> {
  // No operator is configured: answer as if the path did not exist.
  if (!hasOperators(env)) return refused("NotFound", "There is nothing at this path.");
  const token = tokenOf(request.headers.get("Authorization") ?? "");
  if (token === undefined) return refused("AdminTokenNeeded", "The request has no admin token.");
  return admitOperatorToken(token, env, scopes);
}

/** Whether anybody can be an operator of this edge: it has an ADMIN_TOKEN, or keys for tokens. */
export function hasOperators(env: Env): boolean {
  return (env.ADMIN_TOKEN ?? "") !== "" || hasKeys(env);
}

/** Authenticates an operator by the token itself; see {@link admitOperator}. ADMIN_TOKEN makes it `ANYBODY`. */
export async function admitOperatorToken(
  token: string,
  env: Env,
  scopes: readonly ("admin" | "metrics")[] = ["admin"],
): Promise<Admission> {
  const { ADMIN_TOKEN = "" } = env;
  if (ADMIN_TOKEN !== "" && (await isEqual(token, ADMIN_TOKEN))) return admitted(ANYBODY);
  if (!hasKeys(env)) return refused("AdminTokenNeeded", "The admin token is wrong.");
  const answer = await authenticate(token, env, Date.now());
  if (answer.type !== "ok") return answer;
  const { rights } = answer.principal;
  if (!scopes.some((scope) => has(rights, scope))) {
    return refused("ScopeMissing", `The token lacks the scope ${scopes.at(-1)}.`);
  }
  return answer;
}

async function bearer(header: string, env: Env): Promise<Authentication> {
  const token = tokenOf(header);
  if (token === undefined) return refused("TokenNeeded", "The header Authorization is not Bearer followed by a token.");
  return authenticate(token, env, Date.now());
}

function tokenOf(header: string): string | undefined {
  return /^Bearer +(.+)$/i.exec(header)?.[1];
}

/** Admits a principal that has no token to judge. */
function admitted(principal: Principal): Extract<Authentication, { type: "ok" }> {
  return { type: "ok", principal, asOf: Date.now() };
}

function refused<R extends Reason>(reason: R, detail = ""): { type: "refused"; reason: R; detail: string } {
  return { type: "refused", reason, detail };
}
