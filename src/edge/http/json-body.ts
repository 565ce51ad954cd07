/**
 * Bodies of requests that are JSON objects.
 *
 * @module
 */
import type { Result } from "../../lib/result.ts";
import { problem } from "../problem.ts";
import type { Reason } from "../reasons.ts";
import { lengthOf, wholeBody, withoutBody } from "./whole-body.ts";

/**
 * Reads a JSON object of at most `limit` bytes; an empty body is an empty object.
 *
 * @param malformed why any other body is refused
 */
export async function jsonObject(
  request: Request,
  limit: number,
  malformed: Reason,
): Promise<Result<Readonly<Record<string, unknown>>, Response>> {
  const octets = await wholeBody(request, limit, lengthOf(request));
  if (octets === "BodyTooLong") return wrong(problem(malformed, `The body is longer than ${limit} bytes: send less.`));
  if (typeof octets === "string") return wrong(withoutBody(octets));
  if (octets.length === 0) return { ok: true, value: {} };
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(octets));
    if (typeof value !== "object" || value === null || Array.isArray(value))
      return wrong(problem(malformed, "The body is not a JSON object."));
    return { ok: true, value: value as Readonly<Record<string, unknown>> };
  } catch (error) {
    if (error instanceof SyntaxError) return wrong(problem(malformed, "The body is not JSON."));
    throw error;
  }
}

function wrong(problems: Response): Result<never, Response> {
  return { ok: false, problems };
}
