/**
 * The page of one mailbox: what waits, and what an operator can do.
 *
 * @module
 */
import type { MailboxStatus } from "../rpc/mailbox-rpc.ts";
import { Ago, Figure, Peer } from "./layout.tsx";
import { Mark } from "./overview.tsx";
import { countText, plural } from "./text.ts";

/** What was done, as the page says it. */
export const DONE = {
  locked: "All senders are shut out now.",
  unlocked: "Senders are admitted again, as the rule says.",
  rule: "The rule is set.",
  purged: "The messages that waited were removed.",
} as const;

/** What the forms of the page do; each has a token of its own. */
export const ACTIONS = ["lock", "unlock", "rule", "purge"] as const;
export type Action = (typeof ACTIONS)[number];

export interface MailboxProps {
  readonly now: number;
  readonly status: MailboxStatus;
  readonly exists: boolean;
  readonly done: keyof typeof DONE | undefined;
  /** What is wrong with the rule that was sent, and that rule. */
  readonly wrong?: { readonly rule: string; readonly detail: string } | undefined;
  readonly tokens: Readonly<Record<Action, string>>;
}

export function MailboxPage({ now, status, exists, done, wrong, tokens }: MailboxProps) {
  const {
    peer,
    messages,
    octets,
    oldest,
    consumer,
    generation,
    aside,
    locked,
    senders,
    dropped,
    kept = 0,
    reason,
  } = status;
  const drops = Object.entries(dropped).filter(([, count]) => count > 0);
  return (
    <>
      <p class="peers">
        <Peer url={peer} linked={false} />
      </p>
      {done !== undefined && (
        <p class="note good" role="status">
          {DONE[done]}
        </p>
      )}
      {!exists && (
        <p class="note">There is no such mailbox yet: one is made with its first message, or when it is locked.</p>
      )}
      {reason !== undefined && <p class="note bad">{`It cannot be read: ${reason}. The log says more.`}</p>}
      <dl>
        <dt>URL</dt>
        <dd>
          <code>{peer}</code>
        </dd>
        <dt>Waiting</dt>
        <dd>
          <Figure series="messages" value={messages} /> {plural(messages, "message")},{" "}
          <Figure series="bytes" value={octets} as="size" />
          {aside > 0 && `, ${countText(aside)} of them set aside by the device`}
        </dd>
        <dt>Oldest</dt>
        <dd>
          <Ago at={oldest} now={now} />
        </dd>
        {kept > 0 && (
          <>
            <dt>Kept</dt>
            <dd>
              <Figure series="kept" value={kept} as="size" /> of acknowledged messages, for readers over HTTP
            </dd>
          </>
        )}
        <dt>Read by</dt>
        <dd>
          {consumer === undefined ? "nobody now" : <code>{consumer}</code>}
          {generation > 0 && `, connection number ${countText(generation)}`}
        </dd>
        <dt>Senders</dt>
        <dd>{locked ? <Mark state="bad">locked by an operator</Mark> : <bdi>{senders}</bdi>}</dd>
        <dt>Dropped</dt>
        <dd>{drops.length === 0 ? "none" : drops.map(([name, count]) => `${name} ${countText(count)}`).join(", ")}</dd>
      </dl>
      <h2>Who may send</h2>
      <form method="post" action="rule" class="card">
        <Hidden peer={peer} token={tokens.rule} />
        <label for="senders">
          Rule: everyone, nobody, or addresses and patterns such as{" "}
          <code>alice bob/phone *-bot @relay.example.com</code>
        </label>
        <textarea
          id="senders"
          name="senders"
          rows={3}
          spellcheck={false}
          aria-invalid={wrong === undefined ? undefined : "true"}
          aria-describedby={wrong === undefined ? undefined : "wrong"}
        >
          {wrong?.rule ?? senders}
        </textarea>
        {wrong !== undefined && (
          <p id="wrong" class="note bad" role="alert">
            {wrong.detail}
          </p>
        )}
        <button type="submit">Set the rule</button>
      </form>
      <form method="post" action={locked ? "unlock" : "lock"} class="card">
        <Hidden peer={peer} token={locked ? tokens.unlock : tokens.lock} />
        <p>
          {locked
            ? "Senders are shut out, whatever the rule says."
            : "A lock shuts out all senders, whatever the rule says. What waits stays."}
        </p>
        <button type="submit">{locked ? "Unlock" : "Lock"}</button>
      </form>
      <h2>Remove what waits</h2>
      <form method="get" action="purge" class="card">
        <input type="hidden" name="peer" value={peer} />
        <p>Messages that are removed are lost. You will be asked again.</p>
        <button type="submit" class="danger" disabled={messages === 0}>
          Remove {countText(messages)} {plural(messages, "message")}…
        </button>
      </form>
    </>
  );
}

/** Asks before messages are removed. */
export function PurgePage({ status, token }: { readonly status: MailboxStatus; readonly token: string }) {
  const { peer, messages, octets } = status;
  return (
    <>
      <p>
        Remove <Figure series="messages" value={messages} /> {plural(messages, "message")},{" "}
        <Figure series="bytes" value={octets} as="size" />, from the mailbox of <Peer url={peer} linked={false} />? They
        are lost, and so is what arrives until you confirm.
      </p>
      <p>
        <code>{peer}</code>
      </p>
      <form method="post" action="purge">
        <Hidden peer={peer} token={token} />
        <button type="submit" class="danger">
          Remove the messages
        </button>{" "}
        <a href={`mailbox?${new URLSearchParams({ peer })}`}>Keep them</a>
      </form>
    </>
  );
}

function Hidden({ peer, token }: { readonly peer: string; readonly token: string }) {
  return (
    <>
      <input type="hidden" name="peer" value={peer} />
      <input type="hidden" name="form" value={token} />
    </>
  );
}
