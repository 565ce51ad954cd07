/**
 * Operations of virtual connections [MS-GRVHENC], and what an edge says of itself.
 *
 * @module
 */
import type { Reason } from "../../reasons.ts";
import {
  ANYBODY,
  answers,
  anyBody,
  BY_ORIGIN,
  BY_TOKEN,
  inPath,
  json,
  type Operation,
  plain,
  TOKEN,
} from "./operation.ts";
import { FullDisk, Health, Ready } from "./schemas.ts";

const TAGS = ["Devices"];
const OCTETS = ["application/octet-stream"];

/** Why a virtual connection is refused, or has ended. */
const OF_CONNECTION: readonly Reason[] = [
  ...BY_ORIGIN,
  ...BY_TOKEN,
  "MalformedTarget",
  "WrongVersion",
  "WrongEncapsulation",
  "WrongRelay",
  "MalformedRelay",
  "RelayNotAllowed",
  "RelayPrivate",
  "DNSLookupFailed",
  "OriginUnreachable",
  "OriginClosed",
  "OriginReset",
  "DuplicateConnection",
  "SecondGet",
  "SecondPost",
  "DataBeforeEstablished",
  "BodyTooLong",
  "GrownBodyRefused",
  "ContentLengthExceeded",
  "BadEcho",
  "UnknownConnection",
  "ConnectionClosed",
  "ConnectionLost",
  "SessionEnded",
  "EdgeClosed",
  "DeviceGone",
  "EstablishmentTimeout",
  "ConnectTimeout",
  "ReceiveTimeout",
  "RepeatedRequest",
  "OldRequest",
  "AnswerForgotten",
  "MethodNotImplemented",
  "TooManyHalfOpen",
  "TooManyMisses",
  "TooManyOpenFiles",
  "TooManyMailboxes",
  "OutputNotTaken",
  "WebSocketNotPassed",
  "UpgradeNeeded",
];

const TARGET = "/2.0/:relay/:connection";
const PARTS = [
  inPath("relay", "A name of this edge, or an allowed origin relay.", "edge.example.com"),
  inPath(
    "connection",
    "GUID of the virtual connection and its parameters: ConnType=LongLived, KeepAlive or WebSocket.",
    "{12345678-1234-1234-1234-123456789abc},ConnType=KeepAlive",
  ),
];
const SECURITY = [...TOKEN, ...ANYBODY];

export const down: readonly Operation[] = [
  {
    method: "GET",
    path: TARGET,
    description: {
      tags: TAGS,
      operationId: "receiveOctets",
      summary: "The session from the edge: octets of SSTP, when there are some",
      security: SECURITY,
      parameters: PARTS,
      responses: answers(
        { 200: plain("Octets.", [], OCTETS), 101: plain("A WebSocket, whose binary frames carry the octets.") },
        ...OF_CONNECTION,
      ),
    },
  },
];

export const up: readonly Operation[] = [
  {
    method: "POST",
    path: TARGET,
    description: {
      tags: TAGS,
      operationId: "sendOctets",
      summary: "The session to the edge: octets of SSTP",
      security: SECURITY,
      parameters: PARTS,
      requestBody: anyBody("Octets.", true),
      responses: answers({ 200: plain("They were taken.", [], OCTETS) }, ...OF_CONNECTION),
    },
  },
];

/** Why one exchange of Polling is refused. */
const OF_POLL: readonly Reason[] = ["MalformedPoll", "BadChecksum", "BadSequence"];

export const polling: readonly Operation[] = [
  {
    method: "POST",
    description: {
      tags: TAGS,
      operationId: "poll",
      summary: "One exchange of the Polling encapsulation",
      security: SECURITY,
      requestBody: anyBody("A message of Polling.", true),
      responses: answers({ 200: plain("A message of Polling.", [], OCTETS) }, ...OF_CONNECTION, ...OF_POLL),
    },
  },
];

export const landing: readonly Operation[] = [
  {
    method: "GET",
    description: {
      tags: ["Edge"],
      operationId: "getPage",
      summary: "What this is, for a person",
      security: ANYBODY,
      responses: answers({ 200: plain("A page.", [], ["text/html"]) }),
    },
  },
];

export const ready: readonly Operation[] = [
  {
    method: "GET",
    description: {
      tags: ["Edge"],
      operationId: "getReadiness",
      summary: "Whether the edge can be used",
      security: ANYBODY,
      responses: answers({
        200: json("It can.", Ready, ["Date"]),
        503: json("It cannot: the answer says why.", Ready, ["Date"]),
      }),
    },
  },
];

export const health: readonly Operation[] = [
  {
    method: "GET",
    description: {
      tags: ["Edge"],
      operationId: "getHealth",
      summary: "Whether the edge is up",
      security: ANYBODY,
      responses: answers({
        200: json("It is.", Health, ["Date"]),
        503: json("Its disk is nearly full.", FullDisk, ["Date"]),
      }),
    },
  },
];

export const document: readonly Operation[] = [
  {
    method: "GET",
    description: {
      tags: ["Edge"],
      operationId: "getDocument",
      summary: "This document",
      security: ANYBODY,
      responses: answers({ 200: plain("OpenAPI 3.1.", [], ["application/json"]) }),
    },
  },
];
