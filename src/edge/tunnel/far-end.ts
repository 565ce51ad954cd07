/**
 * The far end of a virtual connection: an origin relay, to which its bytes are passed through, or the edge's own SSTP
 * endpoint.
 *
 * @module
 */
import { ownNames } from "../../auth/own-names.ts";
import { relayURL } from "../../sstp/index.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { sendSoon } from "../collector/send-metrics.ts";
import { type Side, SstpEndpoint, type SstpEndpointSnapshot } from "../endpoint/sstp-endpoint.ts";
import type { Env } from "../env.ts";
import { dialRelay } from "../origin/dial-relay.ts";
import { isOwnName } from "../origin/relay-access.ts";
import type { Reason } from "../reasons.ts";
import type { BatchSender } from "../rpc/batch-socket.ts";
import type { DevicePath } from "../rpc/egress-rpc.ts";
import { countedChannel } from "./counted-channel.ts";
import type { Opening } from "./opening.ts";
import type { Owner } from "./owner.ts";
import { RestingEndpoint } from "./resting-endpoint.ts";
import { tunnelContext } from "./tunnel-context.ts";

export interface FarEndOptions {
  readonly owner: Owner;
  readonly opening: Opening;
  /** The WebSocket of the device's Egress, while there is one. */
  egressSocket(): BatchSender<DevicePath> | undefined;
  /** Called when the device is admitted, or when an origin relay has been dialled, which authenticates it. */
  arrived(): void;
  /** Called when the saved endpoint cannot be restored. */
  lost(error: unknown): void;
}

export class FarEnd {
  readonly #context: DurableObjectState;
  readonly #env: Env;
  readonly #owner: Owner;
  readonly #opening: Opening;
  readonly #egressSocket: () => BatchSender<DevicePath> | undefined;
  readonly #arrived: () => void;
  readonly #lost: (error: unknown) => void;
  #endpoint: SstpEndpoint | undefined;
  /** The endpoint that was saved before eviction, until something is to be done with it. */
  #resting: RestingEndpoint | undefined;
  #channel: Promise<ByteChannel | undefined> | undefined;
  #unreached: Reason = "OriginUnreachable";
  #closed = false;
  #relay = "";

  /** @param context of the Tunnel */
  constructor(env: Env, context: DurableObjectState, { owner, opening, egressSocket, arrived, lost }: FarEndOptions) {
    this.#env = env;
    this.#context = context;
    this.#owner = owner;
    this.#opening = opening;
    this.#egressSocket = egressSocket;
    this.#arrived = arrived;
    this.#lost = lost;
  }

  /**
   * The edge's endpoint, restored if it rests; undefined if the virtual connection is passed through, not open yet, or
   * over.
   */
  get endpoint(): SstpEndpoint | undefined {
    const resting = this.#resting;
    if (resting === undefined) return this.#endpoint;
    this.#resting = undefined;
    try {
      this.#endpoint = resting.wake();
    } catch (error) {
      this.#channel = undefined;
      this.#lost(error);
    }
    return this.#endpoint;
  }

  /** Whether the virtual connection ends at this edge, and is open. */
  get endsHere(): boolean {
    return this.#endpoint !== undefined || this.#resting !== undefined;
  }

  /** Whether the device has sent Connect and was accepted. What rests was. */
  get isConnected(): boolean {
    return this.rests || this.endpoint?.connected === true;
  }

  /** What to restore the endpoint from; undefined unless it is quiet. */
  snapshot(): SstpEndpointSnapshot | undefined {
    return this.#resting?.rests ? this.#resting.snapshot : this.endpoint?.snapshot();
  }

  /** Whether the endpoint rests, so that there is nothing for the device. */
  get rests(): boolean {
    return this.#resting?.rests ?? false;
  }

  /** The channel of bytes; undefined until the handshake is complete. Resolves to undefined if nothing was reached. */
  get channel(): Promise<ByteChannel | undefined> | undefined {
    return this.#channel;
  }

  /** URL of the device, once it has connected, or of the origin relay that it is passed through to. */
  get who(): string {
    return (this.#resting?.snapshot ?? this.#endpoint)?.source || this.#relay;
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
    this.#relay = `grooveDNS://${relay}`;
    const channel = this.#dial(relay, readSize);
    this.#channel = channel;
    return channel;
  }

  /** Ends the virtual connection at this edge. */
  terminate(): SstpEndpoint {
    const endpoint = this.#make();
    this.#endpoint = endpoint;
    this.#channel = Promise.resolve(endpoint);
    this.#opening.expectConnect();
    return endpoint;
  }

  /** Goes on with the endpoint that was here before eviction. */
  resume(snapshot: SstpEndpointSnapshot): void {
    this.#resting = new RestingEndpoint(snapshot, (saved) => this.#make(saved));
    this.#channel = Promise.resolve(this.#resting);
  }

  #make(snapshot?: SstpEndpointSnapshot): SstpEndpoint {
    const context = tunnelContext(this.#context, this.#env, this.#owner, this.#arrived, this.#egressSocket);
    return new SstpEndpoint(context, side(this.#env), snapshot);
  }

  /** Closes it, and also what is still being dialled. */
  close(): void {
    this.#closed = true;
    this.#endpoint = undefined;
    this.#resting = undefined;
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
    if (reached.type === "origin") return countedChannel(reached.origin, () => sendSoon(this.#context, this.#env));
    this.#unreached = reached.reason;
    return undefined;
  }
}

/** The edge's side of SSTP: a device's Connect may name any of the edge's own names. */
function side(env: { readonly RELAY_NAME?: string }): Side {
  return { localDeviceURLs: ownNames(env.RELAY_NAME).map(relayURL) };
}
