/**
 * The JSON that the edge answers and takes, as valibot schemas, for its OpenAPI document.
 *
 * They describe what other files read and write, and check nothing themselves. `test/edge/http/openapi.test.ts` compares
 * them with real answers.
 *
 * @module
 */
import * as v from "valibot";
import { REASONS } from "../../reasons.ts";

/** A schema with a name, under `components.schemas` of the document. */
function named<S extends v.ObjectEntries>(name: string, description: string, entries: S) {
  return v.pipe(v.object(entries), v.description(description), v.metadata({ ref: name }));
}

const text = (description: string) => v.pipe(v.string(), v.description(description));
const count = (description: string) => v.pipe(v.number(), v.integer(), v.minValue(0), v.description(description));
const milliseconds = (of: string) => count(`${of}, in milliseconds since 1970.`);
const bytes = (of: string) => count(`${of}, in bytes.`);

/** Each reason with its cause. */
const CODES = Object.entries(REASONS).map(([code, { cause }]) => v.pipe(v.literal(code), v.description(cause)));

export const Problem = named("Problem", "Why a request was refused [RFC 9457].", {
  type: v.literal("about:blank"),
  title: text("Title of the status."),
  status: v.pipe(v.number(), v.integer(), v.description("Status of the answer.")),
  code: v.pipe(v.union(CODES), v.description("Name of the reason. Names are stable.")),
  detail: text("What is wrong with this request, or in general."),
  cure: text("What to do about it."),
});

export const Health = named("Health", "Whether the edge is up.", {
  status: v.literal("ok"),
  service: v.literal("grooveway"),
});

export const FullDisk = named("FullDisk", "The edge is up, but stores nothing more.", {
  status: v.picklist(["full", "failing"]),
  service: v.literal("grooveway"),
  code: v.picklist(["StorageFull", "StorageFailed"]),
  detail: text("What is wrong."),
  cure: text("What to do about it."),
});

const unready = v.array(
  v.object({
    part: v.picklist(["settings", "keys", "storage", "resolver", "links"]),
    code: v.string(),
    detail: v.string(),
    cure: v.string(),
  }),
);

export const Ready = named("Ready", "Whether the edge can be used, and if not, why and what to do.", {
  ready: v.boolean(),
  problems: unready,
  warnings: unready,
});

export const Counts = named("Counts", "What the edge has counted, and whether it can be used.", {
  totals: v.record(v.string(), v.number()),
  gauges: v.record(v.string(), v.record(v.string(), v.number())),
  readiness: v.object({ ready: v.boolean(), problems: unready, warnings: unready }),
});

export const Rule = named("Rule", "Who may send to a mailbox.", {
  peer: text("URL of the mailbox's peer."),
  senders: text("everyone, nobody, or patterns of addresses separated by spaces."),
});

export const NewRule = named("NewRule", "Who may send to a mailbox from now on.", {
  senders: text("everyone, nobody, or patterns of addresses separated by spaces."),
});

export const Room = named("Room", "How much a sender may add to a mailbox.", {
  octets: bytes("Room in this mailbox"),
  messages: count("Messages for which there is room."),
  attached: v.pipe(v.boolean(), v.description("Whether the recipient is connected.")),
  all: v.optional(
    v.pipe(
      v.object({
        octets: bytes("What the sender has reserved in all mailboxes together"),
        most: bytes("What it may reserve"),
      }),
      v.description("Absent if it is not known at the moment."),
    ),
  ),
});

export const Withdrawn = named("Withdrawn", "What became of a sender's waiting messages.", {
  removed: count("Messages that were removed."),
});

export const Stored = named("Stored", "A message that is stored.", {
  id: text("What the sender called it, an @, and the sender's address."),
  offset: text("The place in the mailbox after it."),
});

export const TicketRequest = named("TicketRequest", "The stream or mailbox that is to be read.", {
  mailbox: text("Its name, as in the path /mailboxes/{name}."),
});

export const Ticket = named("Ticket", "A ticket, for the query parameter `ticket`.", {
  ticket: text("It reads that stream or mailbox, and does nothing else."),
  expires: v.pipe(v.string(), v.isoTimestamp(), v.description("When it ends. It must be used within a minute.")),
});

const Answer = v.pipe(
  v.object({
    status: v.optional(v.pipe(v.number(), v.integer(), v.minValue(200), v.maxValue(299)), 200),
    type: v.optional(v.picklist(["text/plain", "application/json"]), "text/plain"),
    body: v.optional(v.string(), ""),
  }),
  v.description("What is answered when a request is stored. If it is left out: 202 without a body."),
);

export const NewInbox = named("NewInbox", "An inbox that is to be made.", {
  verify: text("github, stripe, slack, standard, none, or hmac:HEADER,alg,hex|base64,prefix."),
  name: v.optional(text("1 to 32 small letters, digits and hyphens; by default the kind of verification.")),
  secret: v.optional(text("What the provider signs with.")),
  largest: v.optional(bytes("Longest body")),
  rate: v.optional(count("Requests a second.")),
  answer: v.optional(Answer),
});

export const Inbox = named("Inbox", "An inbox, without its secrets.", {
  name: text("Its name."),
  verify: text("How its requests are verified."),
  last: text("The last characters of its URL."),
  secrets: count("How many secrets are accepted: two for a while after a rotation."),
  largest: bytes("Longest body"),
  rate: count("Requests a second."),
  created: milliseconds("When it was made"),
  stored: count("Requests that it has stored."),
  latest: v.optional(milliseconds("When it has stored the last one")),
  refused: count("Requests that it has refused since its object woke."),
  refusal: v.optional(text("Why it has refused the last of them.")),
});

export const Inboxes = named("Inboxes", "The inboxes of an address.", { inboxes: v.array(Inbox) });

export const ChangedInbox = named("ChangedInbox", "An inbox that was made or changed.", {
  inbox: Inbox,
  path: v.optional(text("The path of its URL. It is shown here, and nowhere else.")),
});

export const NewSecret = named("NewSecret", "A secret for an inbox.", {
  secret: text("What the provider signs with from now on."),
  keep: v.optional(count("Seconds for which the former secret is accepted too.")),
});

export const Removed = named("Removed", "That something was removed.", { removed: v.literal(true) });

export const Failed = named("Failed", "Requests that were set aside, in order.", {
  failed: v.array(
    v.object({
      number: count("By which it is replayed or removed."),
      inbox: text("Name of its inbox."),
      id: text("Id of its message."),
      reason: text("Why it was set aside."),
      detail: v.string(),
      tries: count("How often it was tried."),
      target: text("Method and path."),
      at: milliseconds("When it was set aside"),
      octets: bytes("Its length"),
    }),
  ),
});

export const Numbers = named("Numbers", "Requests that were set aside, by number.", {
  numbers: v.optional(v.pipe(v.array(count("One of them.")), v.description("All, if it is left out."))),
});

export const Replayed = named("Replayed", "What became of requests that were set aside.", {
  replayed: count("Requests that are in the mailbox again."),
  refused: v.optional(text("Why no more are.")),
});

export const Discarded = named("Discarded", "What became of requests that were set aside.", {
  removed: count("Requests that were removed."),
});

export const SetAsideDone = named("SetAside", "A request was set aside.", { setAside: text("Id of its message.") });

export const Mailbox = named("Mailbox", "Status of a mailbox.", {
  peer: text("URL of its peer."),
  messages: count("Messages that wait."),
  octets: bytes("What they hold"),
  kept: v.optional(bytes("Acknowledged messages that are kept for readers over HTTP")),
  oldest: v.optional(milliseconds("When the oldest of them has arrived")),
  consumer: v.optional(text("GUID of the virtual connection that drains it.")),
  generation: count("Grows with each consumer."),
  locked: v.pipe(v.boolean(), v.description("Whether an operator has shut out all senders.")),
  senders: text("The owner's rule for senders."),
  dropped: v.pipe(v.record(v.string(), count("")), v.description("Messages that were dropped, by reason.")),
  aside: count("Messages that the consumer has set aside."),
  suspended: count("Connections of senders that are suspended."),
  rowsWritten: count("Rows written since the object woke."),
  failedDeliveries: count("Failed calls to a consumer since the object woke."),
  reason: v.optional(v.pipe(v.string(), v.description("Why nothing is known of it."))),
});

export const Mailboxes = v.array(Mailbox);

export const Link = named("Link", "Status of the link to an origin relay.", {
  relay: text("URL of the relay."),
  connected: v.boolean(),
  since: v.optional(milliseconds("When the connection began")),
  way: v.optional(text("Host and port that worked last.")),
  failures: count("Consecutive failed tries."),
  why: v.optional(text("Why the last one failed.")),
  reason: v.optional(text("The edge's own reason for that.")),
  cure: v.optional(text("What to do about it.")),
});
