/**
 * Something that is fetched from a URL of the operator's, kept for a while, and fetched anew: the key set, the list of
 * revoked tokens. It belongs to the isolate. A fetch belongs to the request that has begun it and dies with it, so the
 * others do not wait for its promise but look again.
 *
 * @module
 */

import { readBody } from "../lib/runtime/byte-reader.ts";
import { FETCH_TIMEOUT, REFETCH_COOLDOWN, STALE } from "./limits.ts";

/** How often a request looks whether the fetch of another one has come to an end. */
const LOOK = 25;

export class RefreshedUrl<T> {
  readonly #url: string;
  readonly #limit: number;
  readonly #parse: (text: string) => T | Promise<T>;
  #text: string | undefined;
  #value: T | undefined;
  #succeeded = Number.NEGATIVE_INFINITY;
  #tried = Number.NEGATIVE_INFINITY;
  #fetching = false;

  /**
   * @param limit octets that are taken at most
   * @param parse throws when it cannot be used; what was there before is used on then
   */
  constructor(url: string, limit: number, parse: (text: string) => T | Promise<T>) {
    this.#url = url;
    this.#limit = limit;
    this.#parse = parse;
  }

  /**
   * What is there, fetched when it is older than `age`. Undefined when it could not be had for long.
   *
   * @param now milliseconds since 1970
   */
  async get(now: number, age: number): Promise<T | undefined> {
    const busy = this.#fetching && now - this.#tried < FETCH_TIMEOUT;
    const usable = this.#value !== undefined && now - this.#succeeded <= STALE;
    // What is merely old serves well enough while another request fetches it.
    if (now - this.#succeeded >= age && !(busy && usable && age > 0)) await this.#refresh(now, busy);
    return now - this.#succeeded <= STALE ? this.#value : undefined;
  }

  /** @param busy another request fetches; one that was torn away does not say when it is over, but its deadline does */
  async #refresh(now: number, busy: boolean): Promise<void> {
    for (let waited = 0; busy && this.#fetching && waited < FETCH_TIMEOUT; waited += LOOK) {
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
    if (now - this.#tried < REFETCH_COOLDOWN) return;
    this.#tried = now;
    this.#fetching = true;
    try {
      const text = await this.#fetch();
      // The same object for the same text: what was concluded from it stays true.
      if (text !== this.#text) this.#value = await this.#parse(text);
      this.#text = text;
      this.#succeeded = now;
    } catch (error) {
      // The URL may hold a secret, and so may what was fetched: neither is told.
      const why = error instanceof RemoteError ? error.message : "it cannot be reached or used";
      console.warn(JSON.stringify({ reason: "KeysUnavailable", why }));
    } finally {
      this.#fetching = false;
    }
  }

  async #fetch(): Promise<string> {
    const answer = await fetch(this.#url, { redirect: "manual", signal: AbortSignal.timeout(FETCH_TIMEOUT) });
    if (answer.status !== 200) {
      await answer.body?.cancel();
      throw new RemoteError(`it was answered with status ${answer.status}`);
    }
    const body = await readBody(answer.body, this.#limit);
    if (body === undefined) throw new RemoteError(`it has more than ${this.#limit} octets`);
    return new TextDecoder().decode(body);
  }
}

/** Why what was fetched is not used; the message goes to the log and says nothing of what it holds. */
export class RemoteError extends Error {}
