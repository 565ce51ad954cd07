/**
 * The far end of a virtual connection: an origin relay, to which its bytes are passed through, or the edge's own SSTP
 * endpoint.
 *
 * @module
 */
import { ownNames } from "../../auth/own-names.ts";
import { relayURL } from "../../sstp/index.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { type Side, SstpEndpoint, type SstpEndpointSnapshot } from "../endpoint/sstp-endpoint.ts";
import type { Env } from "../env.ts";
import { dialRelay } from "../origin/dial-relay.ts";
import { isOwnName } from "../origin/relay-access.ts";
import type { Reason } from "../reasons.ts";
import type { Opening } from "./opening.ts";
import type { Owner } from "./owner.ts";
import { tunnelContext } from "./tunnel-context.ts";

export interface FarEndOptions {
  readonly owner: Owner;
  readonly opening: Opening;
  /** Called when the device is admitted, or when an origin relay has been dialled, which authenticates it. */
  arrived(): void;
}

export class FarEnd {
  readonly #context: DurableObjectState;
  readonly #env: Env;
  readonly #owner: Owner;
  readonly #opening: Opening;
  readonly #arrived: () => void;
  #endpoint: SstpEndpoint | undefined;
  #channel: Promise<ByteChannel | undefined> | undefined;
  #unreached: Reason = "OriginUnreachable";
  #closed = false;

  /** @param context of the Tunnel */
  constructor(env: Env, context: DurableObjectState, { owner, opening, arrived }: FarEndOptions) {
    this.#env = env;
    this.#context = context;
    this.#owner = owner;
    this.#opening = opening;
    this.#arrived = arrived;
  }

  /** The edge's endpoint; undefined if the virtual connection is passed through, not open yet, or over. */
  get endpoint(): SstpEndpoint | undefined {
    return this.#endpoint;
  }

  /** The channel of bytes; undefined until the handshake is complete. Resolves to undefined if nothing was reached. */
  get channel(): Promise<ByteChannel | undefined> | undefined {
    return this.#channel;
  }

  /** Why an origin relay was not reached. */
  get unreached(): Reason {
    return this.#unreached;
  }

  /**
   * Reaches the relay that the device has named, when the handshake is complete.
   *
   * @param readSize the most that is read ahead of an origin relay, in bytes
   */
  reach(relay: string, readSize: number): Promise<ByteChannel | undefined> {
    if (isOwnName(relay, this.#env)) return Promise.resolve(this.terminate());
    const channel = this.#dial(relay, readSize);
    this.#channel = channel;
    return channel;
  }

  /**
   * Ends the virtual connection at this edge.
   *
   * @param snapshot of the endpoint that was here before eviction
   */
  terminate(snapshot?: SstpEndpointSnapshot): SstpEndpoint {
    const context = tunnelContext(this.#context, this.#env, this.#owner, this.#arrived);
    const endpoint = new SstpEndpoint(context, side(this.#env), snapshot);
    this.#endpoint = endpoint;
    this.#channel = Promise.resolve(endpoint);
    if (snapshot === undefined) this.#opening.expectConnect();
    return endpoint;
  }

  /** Closes it, and also what is still being dialled. */
  close(): void {
    this.#closed = true;
    this.#endpoint = undefined;
    void this.#channel?.then((channel) => channel?.close());
  }

  async #dial(relay: string, readSize: number): Promise<ByteChannel | undefined> {
    // Bulk data runs no code that could judge the token, so a timer does. A relay's socket keeps the object in memory
    // anyway.
    this.#owner.standing.patrol();
    // The Worker has checked the allow list already; dialRelay checks it again, so that no call here can bypass it.
    const reached = await dialRelay(relay, this.#env, readSize);
    // From now on the relay authenticates the device, and decides how long that may take.
    if (!this.#closed) this.#arrived();
    if (reached.type === "origin") return reached.origin;
    this.#unreached = reached.reason;
    return undefined;
  }
}

/** The edge's side of SSTP: a device's Connect may name any of the edge's own names. */
function side(env: { readonly RELAY_NAME?: string }): Side {
  return { localDeviceURLs: ownNames(env.RELAY_NAME).map(relayURL) };
}
