/**
 * What operators see of a mailbox, and do to it: for /admin and the status page.
 *
 * @module
 */
import { promptly } from "../../lib/runtime/timeout.ts";
import { noDrops } from "../../store-and-forward/drop-reasons.ts";
import { isNewerSchema } from "../../store-and-forward/stored-version.ts";
import { isStorageFull, noticeStorageFull } from "../disk-full.ts";
import type { Env } from "../env.ts";
import { logReason } from "../log.ts";
import { FULL_PAUSE } from "../mailbox/limits.ts";
import type { MailboxStatus } from "../rpc/mailbox-rpc.ts";
import { FULL_TRIES, STATUS_TIMEOUT } from "./limits.ts";
import { answered } from "./object-calls.ts";

type MailboxStub = ReturnType<Env["MAILBOX"]["getByName"]>;

/**
 * Does something to a mailbox, which is created if it does not exist, and returns its status afterwards. What fails
 * because the disk is full is tried again when the command has given up its ballast: a purge is what makes room.
 */
export async function operateMailbox(
  peer: string,
  env: Pick<Env, "MAILBOX">,
  act: (mailbox: MailboxStub) => Promise<unknown>,
): Promise<MailboxStatus> {
  for (let tries = FULL_TRIES; ; tries -= 1) {
    // A stub of an object that a full disk has reset cannot be used again.
    const mailbox = env.MAILBOX.getByName(peer);
    try {
      await answered(act(mailbox));
      return await answered(mailbox.status());
    } catch (error) {
      const isFull = noticeStorageFull(error) || isStorageFull();
      if (!isFull || tries === 1 || isNewerSchema(error)) throw error;
      await scheduler.wait(FULL_PAUSE);
    }
  }
}

/** Status of a mailbox in a list, where one that cannot be read, or does not answer, must not hide the others. */
export async function statusOf(peer: string, env: Pick<Env, "MAILBOX">): Promise<MailboxStatus> {
  try {
    return await promptly(STATUS_TIMEOUT, env.MAILBOX.getByName(peer).status());
  } catch (error) {
    // The mailbox has logged it.
    if (isNewerSchema(error)) return { ...emptyMailbox(peer), reason: "NewerSchema" };
    logReason("error", "InternalError", { message: `${peer}: ${error}` });
    return { ...emptyMailbox(peer), reason: "InternalError" };
  }
}

/** Status of a mailbox that does not exist: that of a new one. */
export function emptyMailbox(peer: string): MailboxStatus {
  return {
    peer,
    messages: 0,
    octets: 0,
    oldest: undefined,
    consumer: undefined,
    generation: 0,
    locked: false,
    senders: "everyone",
    dropped: noDrops(),
    aside: 0,
    suspended: 0,
    rowsWritten: 0,
    failedDeliveries: 0,
  };
}
