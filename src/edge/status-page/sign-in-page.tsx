/**
 * The pages for who is not signed in, and for what was refused.
 *
 * @module
 */
import { SESSION_LIFE } from "../operator-sessions/limits.ts";
import { REASONS, type Reason } from "../reasons.ts";

const HOUR = 3_600_000;

/** The form to sign in, under what was wrong with the last try. */
export function SignInPage({
  wrong,
}: {
  readonly wrong?: { readonly reason: Reason; readonly detail: string } | undefined;
}) {
  return (
    <form method="post" action="sign-in" class="card sign-in">
      {wrong !== undefined && (
        <p class="note bad" role="alert" id="wrong">
          {wrong.detail} {REASONS[wrong.reason].cure} <code>{wrong.reason}</code>
        </p>
      )}
      <label for="token">Admin token, or a token with the scope admin</label>
      <input
        id="token"
        name="token"
        type="password"
        required
        autofocus
        autocomplete="current-password"
        spellcheck={false}
        aria-describedby={wrong === undefined ? undefined : "wrong"}
      />
      <button type="submit">Sign in</button>
      <p>
        The session lasts {SESSION_LIFE / HOUR} hours at most, and ends with its token. The token itself is not kept.
      </p>
    </form>
  );
}

/** What was refused, and what to do. */
export function RefusedPage({ reason, detail }: { readonly reason: Reason; readonly detail: string }) {
  return (
    <>
      <p class="note bad" role="alert">
        {detail}
      </p>
      <p>
        {REASONS[reason].cure} <code>{reason}</code>
      </p>
      <p>
        <a href="./">Back to the overview</a>
      </p>
    </>
  );
}
