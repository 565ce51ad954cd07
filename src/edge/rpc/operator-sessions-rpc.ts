/**
 * RPC interface of the object that keeps the sessions of operators, who have signed in to the status page.
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";

/** Name of the only such object. */
export const OPERATOR_SESSIONS = "operator-sessions";

/**
 * How an operator has signed in. Of the ADMIN_TOKEN there is only a hash of it with the id of the session, which is not
 * kept either; of another token what it allows, by which it can be judged again.
 */
export type SignedIn =
  | { readonly type: "adminToken"; readonly seal: string }
  | { readonly type: "token"; readonly principal: Principal };

/** A try to sign in: admitted, or after how many seconds there may be another. */
export type Try = { readonly type: "ok" } | { readonly type: "wait"; readonly retryAfter: number };

/** Sessions are named by the hash of their id. */
export interface OperatorSessionsRpc extends Rpc.DurableObjectBranded {
  /** Counts a try to sign in from a source. */
  attempt(source: string): Promise<Try>;
  /** Begins a session. The try of its source no longer counts. */
  begin(session: string, signedIn: SignedIn, source: string): Promise<void>;
  /** How its operator has signed in; undefined if there is no such session any more. */
  find(session: string): Promise<SignedIn | undefined>;
  /**
   * Takes a form of a session, once.
   *
   * @param form identifies the form
   * @returns false if it was taken before, or if the session has ended
   */
  take(session: string, form: string): Promise<boolean>;
  end(session: string): Promise<void>;
}
