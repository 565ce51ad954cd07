/** How SQLite says that a write failed for another reason than lack of space, as on a disk that is read-only or broken. */
export const WRITE_FAILURE = /SQLITE_(?:READONLY|IOERR|CANTOPEN)/;
