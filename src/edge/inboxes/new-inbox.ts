/**
 * Reads what an owner wants of an inbox. Pure.
 *
 *   {"name": "github", "verify": "github", "secret": "...", "largest": 1048576, "rate": 10,
 *    "answer": {"status": 200, "type": "text/plain", "body": "ok"}}
 *
 * Only `verify` must be there. Without a name the inbox has that of its verification.
 *
 * @module
 */
import type { Result } from "../../lib/result.ts";
import { isInboxName } from "../../sstp/index.ts";
import type { ChosenAnswer, NewInbox } from "../rpc/inboxes-rpc.ts";
import { ANSWER_LENGTH, BODY, HIGHEST_RATE, LARGEST_BODY, RATE, SECRET_LENGTH } from "./limits.ts";
import { formatVerification, parseVerification, secretProblem, type Verification } from "./signature.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Names that paths of the API have. */
const TAKEN = ["failed"];

/** Reads an inbox that is to be made. The problem is a sentence that says what to change. */
export function readNewInbox(fields: Fields): Result<NewInbox, string> {
  const { verify, name: given, secret, largest = BODY, rate = RATE } = fields;
  if (typeof verify !== "string") return wrong("Write in verify how requests are verified.");
  const verification = parseVerification(verify);
  if (!verification.ok) return wrong(`verify: ${verification.problems}.`);
  const { kind } = verification.value;
  const name = given ?? kind;
  if (typeof name !== "string" || !isInboxName(name) || TAKEN.includes(name)) {
    return wrong("The name is not 1 to 32 small letters, digits and hyphens, or it is taken by a path: write another.");
  }
  if (secret !== undefined) {
    const problem = secretProblemOf(verification.value, secret);
    if (problem !== undefined) return wrong(problem);
  }
  if (!isInteger(largest, 1, LARGEST_BODY)) return wrong(`largest is not a number of bytes up to ${LARGEST_BODY}.`);
  if (!isInteger(rate, 1, HIGHEST_RATE))
    return wrong(`rate is not a number of requests a second up to ${HIGHEST_RATE}.`);
  const answer = fields.answer === undefined ? undefined : readAnswer(fields.answer);
  if (answer?.ok === false) return answer;
  return {
    ok: true,
    value: {
      name,
      verify: formatVerification(verification.value),
      secret: secret as string | undefined,
      largest,
      rate,
      answer: answer?.value,
    },
  };
}

/** Why a value cannot be the secret of an inbox; undefined if it can. */
export function secretProblemOf(verification: Verification, secret: unknown): string | undefined {
  const { least, most } = SECRET_LENGTH;
  if (typeof secret !== "string" || secret.length < least || secret.length > most) {
    return `The secret does not have ${least} to ${most} characters.`;
  }
  const problem = secretProblem(verification, secret);
  return problem && `verify ${verification.kind}: ${problem}.`;
}

function readAnswer(value: unknown): Result<ChosenAnswer, string> {
  if (typeof value !== "object" || value === null) return wrong("answer is no object with status, type and body.");
  const { status = 200, type = "text/plain", body = "" } = value as Fields;
  if (!isInteger(status, 200, 299)) return wrong("The status of the answer is not from 200 to 299.");
  if (type !== "text/plain" && type !== "application/json") {
    return wrong("The type of the answer is neither text/plain nor application/json.");
  }
  if (typeof body !== "string" || body.length > ANSWER_LENGTH) {
    return wrong(`The body of the answer is not a text of up to ${ANSWER_LENGTH} characters.`);
  }
  if ((status === 204 || status === 205) && body !== "") return wrong(`An answer with status ${status} has no body.`);
  if (type === "application/json" && !isJson(body)) return wrong("The body of the answer is not JSON.");
  return { ok: true, value: { status, type, body } };
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function isInteger(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function wrong(problems: string): Result<never, string> {
  return { ok: false, problems };
}
