/**
 * Who is let in by HTTP: `Authorization: Bearer` [RFC 6750] on the requests of virtual connections and of operators.
 *
 * @module
 */

import { hasKeys } from "../../auth/key-set.ts";
import { ANYBODY, NOBODY, type Principal } from "../../auth/principal.ts";
import { has } from "../../auth/scopes.ts";
import { type Authentication, authenticate } from "../../auth/verify-token.ts";
import type { Env } from "../env.ts";
import { parseDev } from "../policy/dev-setting.ts";
import type { Reason } from "../reasons.ts";
import { isEqual } from "../timing-safe-equal.ts";

/**
 * Who sends a request of a virtual connection.
 *
 * Without a token it is nobody, who may open a virtual connection to this edge, since there SSTP asks for the token
 * again, and to an origin relay only when the operator says that the relay asks itself.
 *
 * @param ends whether the virtual connection ends at this edge, or is passed through
 */
export async function admit(request: Request, env: Env, ends: boolean): Promise<Authentication> {
  if (!hasKeys(env)) return parseDev(env.DEV).open ? admitted(ANYBODY) : refused("NoKeys");
  const header = request.headers.get("Authorization");
  if (header === null) {
    return ends || env.AUTH_ORIGIN === "origin" ? admitted(NOBODY) : refused("TokenNeeded");
  }
  const answer = await bearer(header, env);
  if (answer.type === "ok" && !has(answer.principal.rights, "connect")) {
    return refused("ScopeMissing", "It has not the scope connect.");
  }
  return answer;
}

/** Who sends a request, or why it is refused. */
export type Admission = Authentication | { readonly type: "refused"; readonly reason: Reason; readonly detail: string };

/** Whether a request is an operator's: by ADMIN_TOKEN, or a token with the scope admin. */
export async function admitOperator(request: Request, env: Env): Promise<Admission> {
  const { ADMIN_TOKEN = "" } = env;
  // Nobody has said who an operator is: then there is nothing here.
  if (ADMIN_TOKEN === "" && !hasKeys(env)) return refused("NotFound", "Nothing is at this path.");
  const header = request.headers.get("Authorization") ?? "";
  const token = tokenOf(header);
  if (token === undefined) return refused("AdminTokenNeeded", "The request has no admin token.");
  if (ADMIN_TOKEN !== "" && (await isEqual(token, ADMIN_TOKEN))) return admitted(ANYBODY);
  if (!hasKeys(env)) return refused("AdminTokenNeeded", "The admin token is another one.");
  const answer = await authenticate(token, env, Date.now());
  if (answer.type === "ok" && !has(answer.principal.rights, "admin")) {
    return refused("ScopeMissing", "It has not the scope admin.");
  }
  return answer;
}

async function bearer(header: string, env: Env): Promise<Authentication> {
  const token = tokenOf(header);
  if (token === undefined) return refused("TokenNeeded", "The header Authorization is not Bearer and a token.");
  return authenticate(token, env, Date.now());
}

function tokenOf(header: string): string | undefined {
  return /^Bearer +(.+)$/i.exec(header)?.[1];
}

/** Somebody about whom there is nothing to judge. */
function admitted(principal: Principal): Extract<Authentication, { type: "ok" }> {
  return { type: "ok", principal, asOf: Date.now() };
}

function refused<R extends Reason>(reason: R, detail = ""): { type: "refused"; reason: R; detail: string } {
  return { type: "refused", reason, detail };
}
