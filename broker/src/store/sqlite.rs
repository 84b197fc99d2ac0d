//! The embedded store: one SQLite file in write-ahead mode, every commit on disk before it counts.

use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use protocol::ids::{DecisionId, Digest, Nonce};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Row, Sqlite, SqliteConnection};
use tokio::sync::Mutex;

use super::{
    Append, Head, Reply, Store, StoreError, StoredDecision, StoredDocument, StoredEntry, StoredFloor, StoredPiece, StoredSighting,
    StoredTile,
};

/// The schema. `user_version` is its number; a store of another number is refused, not guessed at.
const SCHEMA: &str = "
    CREATE TABLE head (
        one        INTEGER PRIMARY KEY CHECK (one = 1),
        size       INTEGER NOT NULL,
        root       BLOB NOT NULL,
        checkpoint TEXT NOT NULL,
        documents  BLOB NOT NULL
    ) STRICT;
    CREATE TABLE entries (
        idx      INTEGER PRIMARY KEY,
        entry    BLOB NOT NULL,
        nonce    BLOB UNIQUE,
        decision BLOB UNIQUE,
        salt     BLOB,
        details  BLOB
    ) STRICT;
    CREATE TABLE tiles (
        level  INTEGER NOT NULL,
        idx    INTEGER NOT NULL,
        hashes BLOB NOT NULL,
        PRIMARY KEY (level, idx)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE documents (
        slot     TEXT PRIMARY KEY,
        signed   BLOB NOT NULL,
        envelope BLOB
    ) STRICT;
";
/// What schema 2 has more than schema 1. A store of schema 1 gets it when it is opened.
const COLLATERAL: &str = "
    CREATE TABLE collateral (
        key          TEXT PRIMARY KEY,
        bytes        BLOB NOT NULL,
        issuer_chain BLOB NOT NULL,
        fetched_at   INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE floors (
        subject TEXT PRIMARY KEY,
        number  INTEGER NOT NULL
    ) STRICT;
    PRAGMA user_version = 2;
";
/// What schema 3 has more than schema 2. The same.
const SIGHTINGS: &str = "
    CREATE TABLE sightings (
        machine   TEXT NOT NULL,
        authority TEXT NOT NULL,
        policy    TEXT NOT NULL,
        seen      INTEGER NOT NULL,
        claims    BLOB NOT NULL,
        PRIMARY KEY (machine, authority, policy)
    ) STRICT;
    PRAGMA user_version = 3;
";
/// What each schema but the newest lacks, from schema 1 on.
const LATER: [&str; 2] = [COLLATERAL, SIGHTINGS];
/// Readers beside the one writer: explain, list, audit.
const READERS: u32 = 4;
/// Pages of 4 KiB that the write-ahead log may hold before they are moved into the store (16 MiB: who waits for the move waits some tens of
/// milliseconds). Nonces and decision ids fall anywhere into
/// their indexes; a long log lets many entries share the move of one page.
const WAL_PAGES: &str = "4096";
/// Memory for the writer's pages (KiB, by SQLite's negative sign): the inner pages of the indexes of some 100 million decisions.
const WRITER_CACHE: &str = "-65536";

/// A store in one file.
pub struct SqliteStore {
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Creates a new store. An existing file is an error.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn create(path: &Path) -> Result<Self, StoreError> {
        // Made here, so that nobody else can read it; SQLite gives its side files the same permissions.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.map_err(|error| StoreError::Database(format!("{}: {error}", path.display())))?;
        let store = Self::connect(path, options(path)).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *store.writer.lock().await).await.map_err(failed)?;
        store.add(&LATER).await?;
        Ok(store)
    }

    /// Opens an existing store.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Damaged`] for another schema.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self::connect(path, options(path)).await?;
        let number: i64 =
            sqlx::query("PRAGMA user_version").fetch_one(&store.readers).await.and_then(|row| row.try_get(0)).map_err(failed)?;
        let lacks = usize::try_from(number).ok().and_then(|number| LATER.get(number.checked_sub(1)?..));
        store.add(lacks.ok_or(StoreError::Damaged("a schema of another version"))?).await?;
        Ok(store)
    }

    /// Brings an older schema up to date.
    async fn add(&self, lacking: &[&'static str]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        for part in lacking {
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            sqlx::raw_sql(*part).execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
        Ok(())
    }

    async fn connect(path: &Path, options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let explain = |error: sqlx::Error| StoreError::Database(format!("{}: {error}", path.display()));
        let writing = options.clone().pragma("wal_autocheckpoint", WAL_PAGES).pragma("cache_size", WRITER_CACHE);
        let writer = SqliteConnection::connect_with(&writing).await.map_err(explain)?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS).connect_with(options.pragma("query_only", "1")).await.map_err(explain)?;
        Ok(Self { writer: Mutex::new(writer), readers })
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(std::time::Duration::from_secs(10))
}

impl Store for SqliteStore {
    fn head(&self) -> Reply<'_, Option<Head>> {
        Box::pin(async {
            let row =
                sqlx::query("SELECT size, root, checkpoint, documents FROM head").fetch_optional(&self.readers).await.map_err(failed)?;
            row.map(|row| {
                let documents: [u8; 32] = array(&row, 3)?;
                Ok(Head { size: number(&row, 0)?, root: array(&row, 1)?, checkpoint: column(&row, 2)?, documents: Digest::from(documents) })
            })
            .transpose()
        })
    }

    fn documents(&self) -> Reply<'_, Vec<StoredDocument>> {
        Box::pin(async {
            let rows =
                sqlx::query("SELECT slot, signed, envelope FROM documents ORDER BY slot").fetch_all(&self.readers).await.map_err(failed)?;
            let document =
                |row: &SqliteRow| Ok(StoredDocument { slot: column(row, 0)?, signed: column(row, 1)?, envelope: column(row, 2)? });
            rows.iter().map(document).collect()
        })
    }

    fn spent<'a>(&'a self, nonces: &'a [Nonce]) -> Reply<'a, Vec<Nonce>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new("SELECT nonce FROM entries WHERE nonce IN (");
            let mut list = query.separated(", ");
            for nonce in nonces {
                list.push_bind(nonce.as_bytes().as_slice());
            }
            query.push(")");
            let mut writer = self.writer.lock().await;
            let rows = query.build().fetch_all(&mut *writer).await.map_err(failed)?;
            rows.iter().map(|row| array(row, 0).map(Nonce::from)).collect()
        })
    }

    fn append(&self, step: Append) -> Reply<'_, ()> {
        Box::pin(async move {
            let mut writer = self.writer.lock().await;
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            move_head(&mut transaction, &step).await?;
            insert_entries(&mut transaction, step.expected.0, &step.entries).await?;
            for tile in &step.tiles {
                let query = sqlx::query("INSERT INTO tiles (level, idx, hashes) VALUES (?, ?, ?)");
                query
                    .bind(i64::from(tile.level))
                    .bind(signed(tile.index)?)
                    .bind(&tile.hashes)
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed)?;
            }
            for document in &step.documents {
                let query = sqlx::query("INSERT OR REPLACE INTO documents (slot, signed, envelope) VALUES (?, ?, ?)");
                let query = query.bind(&document.slot).bind(&document.signed).bind(&document.envelope);
                query.execute(&mut *transaction).await.map_err(failed)?;
            }
            transaction.commit().await.map_err(failed)
        })
    }

    fn entries(&self, range: Range<u64>) -> Reply<'_, Vec<Vec<u8>>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT entry FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx");
            let rows = query.bind(signed(range.start)?).bind(signed(range.end)?).fetch_all(&self.readers).await.map_err(failed)?;
            rows.iter().map(|row| column(row, 0)).collect()
        })
    }

    fn tile(&self, level: u8, index: u64) -> Reply<'_, Option<StoredTile>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT hashes FROM tiles WHERE level = ? AND idx = ?");
            let row = query.bind(i64::from(level)).bind(signed(index)?).fetch_optional(&self.readers).await.map_err(failed)?;
            row.map(|row| Ok(StoredTile { level, index, hashes: column(&row, 0)? })).transpose()
        })
    }

    fn decision(&self, id: DecisionId) -> Reply<'_, Option<(u64, StoredDecision)>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT idx, salt, details FROM entries WHERE decision = ?");
            let row = query.bind(id.as_bytes().as_slice()).fetch_optional(&self.readers).await.map_err(failed)?;
            row.map(|row| Ok((number(&row, 0)?, StoredDecision { id, salt: array(&row, 1)?, details: column(&row, 2)? }))).transpose()
        })
    }

    fn pieces(&self) -> Reply<'_, Vec<StoredPiece>> {
        Box::pin(async {
            let query = sqlx::query("SELECT key, bytes, issuer_chain, fetched_at FROM collateral ORDER BY key");
            let rows = query.fetch_all(&self.readers).await.map_err(failed)?;
            let piece = |row: &SqliteRow| {
                let (key, bytes, issuer_chain) = (column(row, 0)?, column(row, 1)?, column(row, 2)?);
                Ok(StoredPiece { key, bytes, issuer_chain, fetched_at: number(row, 3)? })
            };
            rows.iter().map(piece).collect()
        })
    }

    fn keep_piece(&self, piece: StoredPiece, floor: Option<StoredFloor>) -> Reply<'_, ()> {
        Box::pin(async move {
            let mut writer = self.writer.lock().await;
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            let query = sqlx::query("INSERT OR REPLACE INTO collateral (key, bytes, issuer_chain, fetched_at) VALUES (?, ?, ?, ?)");
            let query = query.bind(&piece.key).bind(&piece.bytes).bind(&piece.issuer_chain).bind(signed(piece.fetched_at)?);
            query.execute(&mut *transaction).await.map_err(failed)?;
            if let Some(floor) = floor {
                let raise = "INSERT INTO floors (subject, number) VALUES (?, ?) \
                             ON CONFLICT (subject) DO UPDATE SET number = max(number, excluded.number) RETURNING number";
                let query = sqlx::query(raise).bind(&floor.subject).bind(i64::from(floor.number));
                let highest = number(&query.fetch_one(&mut *transaction).await.map_err(failed)?, 0)?;
                let highest = u32::try_from(highest).map_err(|_| StoreError::Damaged("a floor beyond 2^32"))?;
                if highest > floor.number {
                    // The transaction is dropped with it.
                    return Err(StoreError::BelowFloor { floor: highest, found: floor.number });
                }
            }
            transaction.commit().await.map_err(failed)
        })
    }

    fn remove_piece<'a>(&'a self, key: &'a str) -> Reply<'a, ()> {
        Box::pin(async move {
            let mut writer = self.writer.lock().await;
            let query = sqlx::query("DELETE FROM collateral WHERE key = ?").bind(key);
            query.execute(&mut *writer).await.map(drop).map_err(failed)
        })
    }

    fn floors(&self) -> Reply<'_, Vec<StoredFloor>> {
        Box::pin(async {
            let rows = sqlx::query("SELECT subject, number FROM floors ORDER BY subject").fetch_all(&self.readers).await.map_err(failed)?;
            let floor = |row: &SqliteRow| {
                let number = u32::try_from(column::<i64>(row, 1)?).map_err(|_| StoreError::Damaged("a floor beyond 2^32"))?;
                Ok(StoredFloor { subject: column(row, 0)?, number })
            };
            rows.iter().map(floor).collect()
        })
    }

    fn sightings(&self) -> Reply<'_, Vec<StoredSighting>> {
        Box::pin(async {
            let query = sqlx::query(
                "SELECT machine, authority, policy, seen, claims FROM sightings ORDER BY seen DESC, machine, authority, policy",
            );
            let rows = query.fetch_all(&self.readers).await.map_err(failed)?;
            let sighting = |row: &SqliteRow| {
                let (machine, authority, policy) = (column(row, 0)?, column(row, 1)?, column(row, 2)?);
                Ok(StoredSighting { machine, authority, policy, seen: number(row, 3)?, claims: column(row, 4)? })
            };
            rows.iter().map(sighting).collect()
        })
    }

    fn keep_sightings(&self, sightings: Vec<StoredSighting>, bound: usize) -> Reply<'_, ()> {
        Box::pin(async move {
            let mut writer = self.writer.lock().await;
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            for StoredSighting { machine, authority, policy, seen, claims } in sightings {
                let query =
                    sqlx::query("INSERT OR REPLACE INTO sightings (machine, authority, policy, seen, claims) VALUES (?, ?, ?, ?, ?)");
                let query = query.bind(machine).bind(authority).bind(policy).bind(signed(seen)?).bind(claims);
                query.execute(&mut *transaction).await.map_err(failed)?;
            }
            let forget = "DELETE FROM sightings WHERE rowid NOT IN \
                          (SELECT rowid FROM sightings ORDER BY seen DESC, machine, authority, policy LIMIT ?)";
            let query = sqlx::query(forget).bind(i64::try_from(bound).unwrap_or(i64::MAX));
            query.execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)
        })
    }
}

/// Moves the head from where it must be to where it will be. Touching exactly one row is the proof.
async fn move_head(transaction: &mut SqliteConnection, step: &Append) -> Result<(), StoreError> {
    let (size, root) = step.expected;
    let query = if size == 0 {
        sqlx::query("INSERT INTO head (size, root, checkpoint, documents, one) VALUES (?, ?, ?, ?, 1) ON CONFLICT DO NOTHING")
    } else {
        sqlx::query("UPDATE head SET size = ?, root = ?, checkpoint = ?, documents = ? WHERE one = 1 AND size = ? AND root = ?")
    };
    let head = &step.head;
    let query = query.bind(signed(head.size)?).bind(head.root.as_slice()).bind(&head.checkpoint).bind(head.documents.as_bytes().as_slice());
    let query = if size == 0 { query } else { query.bind(signed(size)?).bind(root.to_vec()) };
    let moved = query.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
    if moved == 1 { Ok(()) } else { Err(StoreError::HeadMoved) }
}

async fn insert_entries(transaction: &mut SqliteConnection, first: u64, entries: &[StoredEntry]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO entries (idx, entry, nonce, decision, salt, details) ");
    let mut index = signed(first)?;
    query.push_values(entries, |mut row, entry| {
        let decision = entry.decision.as_ref();
        row.push_bind(index)
            .push_bind(entry.entry.as_slice())
            .push_bind(entry.nonce.map(|nonce| nonce.as_bytes().to_vec()))
            .push_bind(decision.map(|decision| decision.id.as_bytes().to_vec()))
            .push_bind(decision.map(|decision| decision.salt.to_vec()))
            .push_bind(decision.map(|decision| decision.details.as_slice()));
        index += 1;
    });
    let unique = |error: &sqlx::Error| {
        error.as_database_error().is_some_and(|error| error.is_unique_violation() && error.message().contains("nonce"))
    };
    match query.build().execute(&mut *transaction).await {
        Ok(_) => Ok(()),
        Err(error) if unique(&error) => Err(StoreError::NonceSpent),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: sqlx::Error) -> StoreError {
    StoreError::Database(error.to_string())
}

fn column<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(row: &'r SqliteRow, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(failed)
}

fn number(row: &SqliteRow, at: usize) -> Result<u64, StoreError> {
    u64::try_from(column::<i64>(row, at)?).map_err(|_| StoreError::Damaged("a negative index"))
}

fn signed(index: u64) -> Result<i64, StoreError> {
    i64::try_from(index).map_err(|_| StoreError::Damaged("an index beyond 2^63"))
}

fn array<const N: usize>(row: &SqliteRow, at: usize) -> Result<[u8; N], StoreError> {
    column::<&[u8]>(row, at)?.try_into().map_err(|_| StoreError::Damaged("a digest of another length"))
}
