//! An object store behind a URL: S3, Google's, Azure's, through the crate `object_store`.

use super::Objects;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
    parse_url_opts,
};
use percent_encoding::percent_decode_str;
use std::env;
use std::future::Future;
use std::io;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// A store, and the thread that waits for its network.
pub struct Remote {
    runtime: Runtime,
    store: Box<dyn ObjectStore>,
    prefix: Path,
    url: String,
}

impl Remote {
    /// Opens the store at `url`, for instance `s3://bucket/folder`, `gs://bucket` or
    /// `az://container`. Keys, regions and endpoints come from the environment, by the names that
    /// the stores' own tools use (AWS_ACCESS_KEY_ID, ...).
    pub fn open(url: &str) -> io::Result<Self> {
        let url =
            Url::parse(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let settings = env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let (store, prefix) = parse_url_opts(&url, settings).map_err(io::Error::from)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let remote = Remote { runtime, store, prefix, url: url.to_string() };
        remote.keeps_conditions()?;
        Ok(remote)
    }

    /// Tries whether the store refuses to replace what is not of the version that was named. One
    /// that does not would let two programs destroy a disk, and none would know.
    fn keeps_conditions(&self) -> io::Result<()> {
        let name = unique_name();
        // An object of its own: others try at the same time.
        let key = format!("{TRIALS}{name}");
        let tried = self.try_conditions(&key, &name);
        // One that stays does no harm.
        let _ = self.delete(&key);
        tried
    }

    fn try_conditions(&self, key: &str, name: &str) -> io::Result<()> {
        // Never the same bytes twice: some stores tell versions by them.
        let bytes = |number: u32| format!("{name}-{number}").into_bytes();
        let refused = |put: io::Result<String>, what: &str| match put {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let text = format!("the store does not refuse to {what} (conditional puts)");
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        };
        let old = self.replace(key, &bytes(0), None)?;
        let again = self.replace(key, &bytes(1), None);
        refused(again, "put an object that is there already")?;
        if self.get(key)?.is_none() {
            return Err(io::Error::other(format!(
                "{key} was put into the store, and is not there"
            )));
        }
        self.put(key, &bytes(2))?;
        let replaced = self.replace(key, &bytes(3), Some(&old));
        refused(replaced, "replace what somebody else has changed")?;
        let Some((_, last)) = self.get(key)? else {
            return Err(io::Error::other(format!(
                "{key} was put into the store, and is not there"
            )));
        };
        self.delete(key)?;
        let replaced = self.replace(key, &bytes(4), Some(&last));
        refused(replaced, "replace what somebody else has deleted")
    }

    /// Returns true if the object is still of the version `old`, so that a put on that condition
    /// was refused for another reason.
    fn is_unchanged(&self, key: &str, old: Option<&str>) -> io::Result<bool> {
        Ok(self.get(key)?.map(|(_, version)| version).as_deref() == old)
    }

    fn path(&self, key: &str) -> Path {
        key.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Waits for the network; what is not there is `None`.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> io::Result<Option<T>> {
        match self.runtime.block_on(work) {
            Err(Error::NotFound { .. }) => Ok(None),
            done => done.map(Some).map_err(io::Error::from),
        }
    }
}

/// Folder of objects that are put to see what the store does, and deleted at once.
const TRIALS: &str = "trials/";

/// A name that no other process has.
fn unique_name() -> String {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since_1970.as_nanos())
}

/// Most times that a put is sent which a store refused without its condition being broken.
const MAX_CONFLICTS: u32 = 6;
/// Time between two of them.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// Puts both things that stores tell versions by into one text.
fn version(e_tag: Option<String>, version: Option<String>) -> String {
    format!("{}\n{}", e_tag.unwrap_or_default(), version.unwrap_or_default())
}

fn update(version: &str) -> UpdateVersion {
    let (e_tag, version) = version.split_once('\n').unwrap_or((version, ""));
    let given = |text: &str| (!text.is_empty()).then(|| text.to_string());
    UpdateVersion { e_tag: given(e_tag), version: given(version) }
}

impl Objects for Remote {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        let path = self.path(key);
        self.wait(async {
            let found = self.store.get(&path).await?;
            let version = version(found.meta.e_tag.clone(), found.meta.version.clone());
            Ok((found.bytes().await?.to_vec(), version))
        })
    }

    fn has(&self, key: &str) -> io::Result<bool> {
        Ok(self.wait(self.store.head(&self.path(key)))?.is_some())
    }

    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let payload = PutPayload::from(bytes.to_vec());
        self.wait(self.store.put(&self.path(key), payload)).map(drop)
    }

    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        let path = self.path(key);
        let mut conflicts = 0;
        loop {
            let mode = old.map_or(PutMode::Create, |old| PutMode::Update(update(old)));
            let options = PutOptions { mode, ..PutOptions::default() };
            let put = self.store.put_opts(&path, PutPayload::from(bytes.to_vec()), options);
            let what = match self.runtime.block_on(put) {
                Ok(put) => return Ok(version(put.e_tag, put.version)),
                Err(Error::NotFound { .. }) if old.is_some() => "removed",
                Err(
                    Error::Precondition { .. }
                    | Error::AlreadyExists { .. }
                    | Error::NotModified { .. },
                ) => "replaced",
                Err(error) => return Err(error.into()),
            };
            conflicts += 1;
            // Two puts at the same moment are both refused by some stores.
            if what == "replaced" && conflicts < MAX_CONFLICTS && self.is_unchanged(key, old)? {
                std::thread::sleep(CONFLICT_PAUSE);
                continue;
            }
            let text = format!("{key} was {what} by somebody else: the disk is served twice");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>> {
        let path = self.path(prefix);
        let found: Vec<_> =
            self.wait(self.store.list(Some(&path)).try_collect())?.unwrap_or_default();
        let named = found.into_iter().filter_map(|meta: object_store::ObjectMeta| {
            // Nothing of ours lies deeper, and a folder's own entry is none of its contents.
            let mut parts = meta.location.prefix_match(&path)?;
            let (first, None) = (parts.next()?, parts.next()) else { return None };
            // The store has names encoded, as `path` makes them. A name that cannot be decoded is
            // not found under its key, and that is told.
            let name = percent_decode_str(first.as_ref()).decode_utf8_lossy();
            Some((format!("{prefix}{name}"), SystemTime::from(meta.last_modified)))
        });
        Ok(named.collect())
    }

    fn time(&self) -> io::Result<Option<SystemTime>> {
        let name = unique_name();
        let key = format!("{TRIALS}{name}");
        self.put(&key, name.as_bytes())?;
        let listed = self.list(TRIALS);
        self.delete(&key)?;
        match listed?.into_iter().find(|(other, _)| *other == key) {
            Some((_, time)) => Ok(Some(time)),
            None => Err(io::Error::other("the store does not list what was just put into it")),
        }
    }

    fn identity(&self) -> Option<String> {
        Some(self.url.clone())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.wait(self.store.delete(&self.path(key))).map(drop)
    }
}
