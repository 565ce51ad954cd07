/**
 * Durable Objects by name, whether they have storage or not. On a machine of its own the edge runs Tunnels, and the Meters
 * of their connections, as objects without storage: nothing of a virtual connection outlives the process, and a database
 * of its own costs each object 4 ms of CPU and 4 fsyncs before it has written anything. Elsewhere all objects have storage.
 *
 * Objects without storage are told apart by their names alone, hibernate as others do, and lose what is in their
 * memory. What must survive that is in object-storage.ts.
 *
 * @module
 */
import type { Env } from "../env.ts";
import type { MeterRpc } from "../rpc/meter-rpc.ts";
import type { TunnelRpc } from "../rpc/tunnel-rpc.ts";

/** The Tunnel of a virtual connection, by its GUID. */
export function tunnelNamed(env: Pick<Env, "TUNNEL">, name: string): DurableObjectStub<TunnelRpc> {
  return objectNamed(env.TUNNEL, name);
}

/**
 * The Meter of a principal or source. That of a sender's account is another object, which has storage everywhere: what is
 * stored of a sender outlives the process.
 */
export function meterNamed(env: Pick<Env, "METER" | "CONNECTION_METER">, name: string): DurableObjectStub<MeterRpc> {
  return objectNamed(env.CONNECTION_METER ?? env.METER, name);
}

/** The platform's namespace of objects without storage has this method alone. */
interface VolatileNamespace<T extends Rpc.DurableObjectBranded> {
  readonly getByName?: undefined;
  get(name: string): DurableObjectStub<T>;
}

export function objectNamed<T extends Rpc.DurableObjectBranded>(
  namespace: DurableObjectNamespace<T> | VolatileNamespace<T>,
  name: string,
): DurableObjectStub<T> {
  return namespace.getByName === undefined ? namespace.get(name) : namespace.getByName(name);
}

/** The name by which an object is called; "" if it was called by its id, as no object of the edge is. */
export function nameOf({ id }: Pick<DurableObjectState, "id">): string {
  // The id of an object without storage is its name.
  return typeof id === "string" ? id : (id.name ?? "");
}
