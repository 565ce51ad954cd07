/** Objects of a driven edge, each with a name that no other test has. */
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { objectOf } from "../support/objects.ts";
import { startDrivenEdge, type TestEdge } from "./support.ts";

export interface NewObject<T> {
  readonly stub: T;
  /** Another stub of it, which works after a crash. */
  again(): Promise<T>;
}

/** Returns what makes objects of a class, by its binding. Their edge ends with the tests of the file. */
export function newObjects<T>(binding: string): () => Promise<NewObject<T>> {
  let driven: TestEdge | undefined;
  before(async () => {
    driven = await startDrivenEdge(0);
  });
  after(() => driven?.close());
  let made = 0;
  return async () => {
    assert.ok(driven !== undefined);
    const { miniflare } = driven.edge;
    made += 1;
    const name = `own ${made}`;
    const again = async () => (await miniflare.getDurableObjectNamespace(binding)).getByName(name) as unknown as T;
    return { stub: await objectOf<T>(miniflare, binding, name), again };
  };
}
