/** Durable Objects of an edge, called from a test. */
import type { Miniflare } from "miniflare";

const known = new WeakMap<Miniflare, Map<string, Promise<unknown>>>();

/**
 * An object of an edge by its binding and name. Miniflare answers the first call of a stub in four requests, which stop
 * this process and the devices in it meanwhile, and each later call in one: so there is one stub for each object.
 */
export async function objectOf<T>(miniflare: Miniflare, binding: string, name: string): Promise<T> {
  const stubs = known.get(miniflare) ?? new Map<string, Promise<unknown>>();
  known.set(miniflare, stubs);
  const key = `${binding} ${name}`;
  const made =
    stubs.get(key) ?? miniflare.getDurableObjectNamespace(binding).then((namespace) => namespace.getByName(name));
  stubs.set(key, made);
  return (await made) as T;
}
