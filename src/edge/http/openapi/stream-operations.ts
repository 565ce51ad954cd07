/**
 * Operations of the Durable Streams protocol, on plain streams and on the mailboxes of peers, and what belongs to them.
 *
 * @module
 */
import { HEADER } from "../../durable-streams/headers.ts";
import type { Reason } from "../../reasons.ts";
import {
  ADDRESS,
  ANYBODY,
  answers,
  anyBody,
  BY_BODY,
  BY_GATE,
  BY_LONG_BODY,
  BY_ORIGIN,
  BY_TOKEN,
  inHeader,
  inPath,
  inQuery,
  json,
  jsonBody,
  type Operation,
  plain,
  type Security,
  TOKEN,
  TOKEN_OR_TICKET,
} from "./operation.ts";
import { NewRule, Room, Rule, Stored, Ticket, TicketRequest, Withdrawn } from "./schemas.ts";

const STREAMS = ["Streams"];
const MAILBOXES = ["Mailboxes"];

const STREAM = "/mailboxes/:space/:collection/:name";
const PEER = "/mailboxes/:address";

/** A name has three segments or more; the document shows three, because a parameter cannot have a slash. */
const NAME = [
  inPath("space", "First segment of the name. Streams under `public` are read by anybody.", "app"),
  inPath("collection", "Second segment.", "logs"),
  inPath("name", "Third segment. More may follow, each after a slash.", "today"),
];

const CONTENT_TYPE = inHeader("Content-Type", "That of the stream. One of `application/json` is a sequence of values.");
const CLOSES = inHeader(HEADER.closed, "Closes the stream, with what is appended as its last.", { values: ["true"] });
const LIFETIME = [
  inHeader(HEADER.ttl, "Seconds for which it lives after its last use."),
  inHeader(HEADER.expiresAt, "Time at which it ends."),
];
const SEQUENCE = inHeader(HEADER.sequence, "A text that must be greater than that of the last append.");
const PRODUCER = [
  inHeader(HEADER.producerId, "Name of an idempotent producer; the two headers after it belong to it."),
  inHeader(HEADER.producerEpoch, "Number of the producer's start."),
  inHeader(HEADER.producerSeq, "Number of the request in its epoch, from 0."),
];

const READING = [
  inQuery("offset", "Where to begin: -1, now, or an offset of an earlier answer. By default -1; live reads need one."),
  inQuery("live", "Waits for what is appended: until it comes, or with events.", { values: ["long-poll", "sse"] }),
  inQuery("cursor", "The cursor of the last answer."),
  inHeader("If-None-Match", "ETag of an earlier answer to the same read."),
  inHeader(HEADER.lastEventId, "The `id` of the last event: it counts more than `offset`."),
];
const TICKET = inQuery("ticket", "Stands for a token, where no header can be sent.");

const AT = [HEADER.next, HEADER.closed];
const READ = [...AT, HEADER.upToDate, HEADER.cursor, "ETag", "Cache-Control"];

const IN_NAME: readonly Reason[] = ["MalformedStreamName", "TokenInQuery"];
const OF_STREAM: readonly Reason[] = [...IN_NAME, ...BY_ORIGIN, ...BY_TOKEN, "StreamNotFound", "StreamDeleted"];
const OF_PEER: readonly Reason[] = [...IN_NAME, ...BY_ORIGIN, ...BY_TOKEN, "MalformedAddress"];
const OF_READ: readonly Reason[] = ["MalformedQuery", "MalformedOffset", "OffsetGone", "TooManyReaders"];
const OF_TICKET: readonly Reason[] = ["TicketInvalid", ...BY_GATE];
const OF_APPEND: readonly Reason[] = [
  ...BY_LONG_BODY,
  "AppendTooLong",
  "MalformedContentType",
  "MalformedStreamHeader",
  "ContentTypeDiffers",
  "EmptyAppend",
  "MalformedJson",
];
const OF_PRODUCER: readonly Reason[] = [
  "ProducerFenced",
  "ProducerGap",
  "EpochWithoutStart",
  "TooManyProducers",
  "SequenceConflict",
  "StreamClosed",
];
const OF_CREATION: readonly Reason[] = [
  ...BY_LONG_BODY,
  "AppendTooLong",
  "MalformedContentType",
  "MalformedStreamHeader",
  "MalformedOffset",
  "MalformedJson",
  "StreamDiffers",
  "DeletedButForked",
  "OffsetGone",
  "ForkBeyondEnd",
  "ForkTooDeep",
  "ContentTypeDiffers",
  "StreamQuota",
];
/** Why a message is not stored. */
const OF_SENDING: readonly Reason[] = [
  "MalformedSender",
  "MailboxFull",
  "LockedOut",
  "DNSLookupFailed",
  "OriginUnreachable",
  "LinkInClear",
  "RelayNotAllowed",
  "RelayPrivate",
  "MalformedRelay",
];

const READS = {
  200: plain("What is there, from the offset on; or events.", READ, ["*/*", "text/event-stream"]),
  204: plain("Nothing was appended in time.", READ),
  304: plain("The client has what is there.", ["ETag", "Cache-Control"]),
};

const TOKEN_OR_OPERATOR: Security = [...TOKEN, { operator: [] }];

const FROM = inQuery("from", "The sending device, if the token's address is a pattern.", { example: "alice/pc" });
const KEY = inHeader("Idempotency-Key", "Id of the message: with the same one it is stored once.");

/** Operations of `/mailboxes/*`. */
export const mailboxes: readonly Operation[] = [
  {
    method: "PUT",
    path: STREAM,
    description: {
      tags: STREAMS,
      operationId: "createStream",
      summary: "Create a stream, or a fork of one",
      security: TOKEN,
      parameters: [
        ...NAME,
        CONTENT_TYPE,
        ...LIFETIME,
        CLOSES,
        inHeader(HEADER.forkedFrom, "Path of the stream that it is forked from."),
        inHeader(HEADER.forkOffset, "Offset at which it is forked; by default the end."),
        inHeader(HEADER.forkSubOffset, "Bytes or messages beyond that offset."),
      ],
      requestBody: anyBody("What it begins with.", false),
      responses: answers(
        {
          200: plain("The stream is there, as it was asked for.", AT),
          201: plain("The stream was created.", [...AT, "Location"]),
        },
        ...OF_STREAM,
        ...OF_CREATION,
      ),
    },
  },
  {
    method: "POST",
    path: STREAM,
    description: {
      tags: STREAMS,
      operationId: "appendToStream",
      summary: "Append to a stream, or close it",
      security: TOKEN,
      parameters: [...NAME, CONTENT_TYPE, CLOSES, ...PRODUCER, SEQUENCE],
      requestBody: anyBody("What to append.", false),
      responses: answers(
        {
          200: plain("It is stored, for the first time, as its producer has numbered it.", [
            ...AT,
            ...producerHeaders(),
          ]),
          204: plain("It is stored; if it is of a producer, it was stored before.", [...AT, ...producerHeaders()]),
        },
        ...OF_STREAM,
        ...OF_APPEND,
        ...OF_PRODUCER,
        "StreamQuota",
      ),
    },
  },
  {
    method: "GET",
    path: STREAM,
    description: {
      tags: STREAMS,
      operationId: "readStream",
      summary: "Read a stream: what is there, by long-poll, or as server-sent events",
      security: [...TOKEN_OR_TICKET, ...ANYBODY],
      parameters: [...NAME, ...READING, TICKET],
      responses: answers(READS, ...OF_STREAM, ...OF_READ, ...OF_TICKET),
    },
  },
  {
    method: "HEAD",
    path: STREAM,
    description: {
      tags: STREAMS,
      operationId: "describeStream",
      summary: "Where a stream ends, and how long it lives",
      security: [...TOKEN_OR_TICKET, ...ANYBODY],
      parameters: [...NAME, TICKET],
      responses: answers(
        { 200: plain("The stream is there.", [...AT, HEADER.ttl, HEADER.expiresAt]) },
        ...OF_STREAM,
        ...OF_TICKET,
      ),
    },
  },
  {
    method: "DELETE",
    path: STREAM,
    description: {
      tags: STREAMS,
      operationId: "deleteStream",
      summary: "Delete a stream",
      security: TOKEN,
      parameters: NAME,
      responses: answers({ 204: plain("The stream was deleted.") }, ...OF_STREAM),
    },
  },
  {
    method: "GET",
    path: PEER,
    description: {
      tags: MAILBOXES,
      operationId: "readMailbox",
      summary: "Read a mailbox: each message in an envelope. Nothing is removed",
      security: TOKEN_OR_TICKET,
      parameters: [ADDRESS, ...READING, TICKET],
      responses: answers(
        {
          ...READS,
          200: plain("Messages, from the offset on; or events.", READ, ["application/json", "text/event-stream"]),
        },
        ...OF_PEER,
        ...OF_READ,
        ...OF_TICKET,
      ),
    },
  },
  {
    method: "HEAD",
    path: PEER,
    description: {
      tags: MAILBOXES,
      operationId: "describeMailbox",
      summary: "Where a mailbox ends",
      security: TOKEN_OR_TICKET,
      parameters: [ADDRESS, TICKET],
      responses: answers(
        { 200: plain("Where it ends.", [...AT, HEADER.ttl, HEADER.expiresAt]) },
        ...OF_PEER,
        ...OF_TICKET,
      ),
    },
  },
  {
    method: "POST",
    path: PEER,
    description: {
      tags: MAILBOXES,
      operationId: "appendToMailbox",
      summary: "Send messages: each value of JSON is the body of one",
      security: TOKEN,
      parameters: [ADDRESS, FROM, CONTENT_TYPE, KEY, CLOSES, ...PRODUCER, SEQUENCE],
      requestBody: { required: false, content: { "application/json": {} } },
      responses: answers(
        {
          200: plain("They are stored, for the first time, as their producer has numbered them.", [
            ...AT,
            ...producerHeaders(),
          ]),
          204: plain("They are stored; if they are of a producer, they were stored before.", [
            ...AT,
            ...producerHeaders(),
          ]),
        },
        ...OF_PEER,
        ...OF_APPEND,
        ...OF_PRODUCER,
        ...OF_SENDING,
        "EnvelopeRefused",
      ),
    },
  },
  {
    method: "PUT",
    path: PEER,
    description: {
      tags: MAILBOXES,
      operationId: "ensureMailbox",
      summary: "Make sure that there is a mailbox, and set when it ends and whether it is closed",
      security: TOKEN_OR_OPERATOR,
      parameters: [ADDRESS, CONTENT_TYPE, ...LIFETIME, CLOSES],
      responses: answers(
        { 200: plain("It is there.", AT), 201: plain("It was made, or set.", [...AT, "Location"]) },
        ...OF_PEER,
        ...BY_LONG_BODY,
        "MalformedContentType",
        "MalformedStreamHeader",
        "MalformedOffset",
        "AppendTooLong",
        "StreamDiffers",
        "ForkOfMailbox",
        "MailboxNeedsSender",
      ),
    },
  },
  {
    method: "DELETE",
    path: PEER,
    description: {
      tags: MAILBOXES,
      operationId: "emptyMailbox",
      summary: "Remove what waits in a mailbox, and what is kept",
      security: TOKEN_OR_OPERATOR,
      parameters: [ADDRESS],
      responses: answers({ 204: plain("It is empty.") }, ...OF_PEER),
    },
  },
];

function producerHeaders(): readonly string[] {
  return [HEADER.producerEpoch, HEADER.producerSeq];
}

/** Operations of `/send/*`. */
export const sending: readonly Operation[] = [
  {
    method: "POST",
    path: "/send/:address",
    description: {
      tags: MAILBOXES,
      operationId: "send",
      summary: "Send a message: the body, of any type",
      security: TOKEN,
      parameters: [ADDRESS, FROM, inHeader("Content-Type", "That of the message."), KEY],
      requestBody: anyBody("The message.", true),
      responses: answers(
        { 200: json("It is stored.", Stored, AT) },
        ...OF_PEER,
        ...BY_LONG_BODY,
        ...OF_SENDING,
        "AppendTooLong",
        "MalformedContentType",
        "MalformedStreamHeader",
        "StreamClosed",
      ),
    },
  },
];

export const tickets: readonly Operation[] = [
  {
    method: "POST",
    path: "/tickets",
    description: {
      tags: STREAMS,
      operationId: "issueTicket",
      summary: "Get a ticket for a browser's EventSource, which can send no token",
      security: TOKEN,
      requestBody: jsonBody(TicketRequest),
      responses: answers(
        { 201: json("The ticket.", Ticket) },
        ...BY_ORIGIN,
        ...BY_TOKEN,
        ...BY_BODY,
        "MalformedTicketRequest",
        "MalformedAddress",
        "StreamNotFound",
        "StreamDeleted",
        "TooManyTickets",
      ),
    },
  },
];

export const schema: readonly Operation[] = [
  {
    method: "GET",
    description: {
      tags: MAILBOXES,
      operationId: "getEnvelopeSchema",
      summary: "The JSON Schema of the envelope of a message",
      security: ANYBODY,
      responses: answers({ 200: plain("The schema.", [], ["application/schema+json"]) }),
    },
  },
];

const RULED: readonly Reason[] = ["MalformedAddress", ...BY_GATE];

/** Operations of a mailbox's rule, for its owner or for an operator. */
export function rule(
  security: Security,
  operator: boolean,
  refused: readonly Reason[],
): { readonly get: readonly Operation[]; readonly set: readonly Operation[] } {
  const rest = { tags: operator ? ["Operators"] : MAILBOXES, security, parameters: [ADDRESS] };
  const by = operator ? "AsOperator" : "";
  const get: Operation = {
    method: "GET",
    description: {
      ...rest,
      operationId: `getRule${by}`,
      summary: "Who may send to a mailbox",
      responses: answers({ 200: json("The rule.", Rule) }, ...RULED, ...refused),
    },
  };
  const set: Operation = {
    method: "PUT",
    description: {
      ...rest,
      operationId: `setRule${by}`,
      summary: "Set who may send to a mailbox",
      requestBody: jsonBody(NewRule),
      responses: answers(
        { 200: json("The rule as it is now.", Rule) },
        ...RULED,
        ...refused,
        ...BY_BODY,
        "MalformedRule",
      ),
    },
  };
  return { get: [get], set: [set] };
}

export const room: readonly Operation[] = [
  {
    method: "GET",
    description: {
      tags: MAILBOXES,
      operationId: "getRoom",
      summary: "How much a sender may add to a mailbox",
      security: TOKEN,
      parameters: [ADDRESS, inQuery("from", "The sending device.", { required: true, example: "alice/pc" })],
      responses: answers({ 200: json("The room.", Room) }, ...BY_TOKEN, ...BY_GATE, ...OF_SENDING, "MalformedAddress"),
    },
  },
];

export const withdrawal: readonly Operation[] = [
  {
    method: "DELETE",
    description: {
      tags: MAILBOXES,
      operationId: "withdrawMessages",
      summary: "Take back messages that wait",
      security: TOKEN,
      parameters: [
        ADDRESS,
        inQuery("from", "The sending device.", { required: true, example: "alice/pc" }),
        inQuery("id", "What their ids begin with.", { required: true }),
      ],
      responses: answers(
        { 200: json("They were removed.", Withdrawn) },
        ...BY_TOKEN,
        ...BY_GATE,
        ...OF_SENDING,
        "MalformedAddress",
      ),
    },
  },
];
