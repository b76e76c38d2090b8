//! An object store behind a URL: S3, Google's, Azure's, through the crate `object_store`.

use super::Objects;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, parse_url_opts,
};
use std::env;
use std::future::Future;
use std::io;
use std::time::SystemTime;
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// A store, and the thread that waits for its network.
pub struct Remote {
    runtime: Runtime,
    store: Box<dyn ObjectStore>,
    prefix: Path,
}

impl Remote {
    /// Opens the store at `url`, for instance `s3://bucket/folder`, `gs://bucket` or `az://container`. Keys, regions and
    /// endpoints come from the environment, by the names that the stores' own tools use (AWS_ACCESS_KEY_ID, ...).
    pub fn open(url: &str) -> io::Result<Self> {
        let url = Url::parse(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let settings =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let (store, prefix) = parse_url_opts(&url, settings).map_err(io::Error::from)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let remote = Remote { runtime, store, prefix };
        remote.keeps_conditions()?;
        Ok(remote)
    }

    /// Tries whether the store refuses to replace what is not of the version that was named. One that does not would let
    /// two programs destroy a disk, and none would know.
    fn keeps_conditions(&self) -> io::Result<()> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Never the same bytes twice: some stores tell versions by them.
        let bytes = |number: u32| format!("{}-{}-{number}", std::process::id(), since_1970.as_nanos()).into_bytes();
        let refused = |put: io::Result<String>| match put {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let text = "the store does not refuse to replace what somebody else has changed (conditional puts)";
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        };
        if self.get(TRIAL)?.is_none() {
            // Whether it is refused now depends on who else is trying.
            drop(self.replace(TRIAL, &bytes(0), None));
        }
        refused(self.replace(TRIAL, &bytes(1), None))?;
        let Some((_, old)) = self.get(TRIAL)? else {
            return Err(io::Error::other(format!("{TRIAL} was put into the store, and is not there")));
        };
        self.put(TRIAL, &bytes(2))?;
        refused(self.replace(TRIAL, &bytes(3), Some(&old)))
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Waits for the network; what is not there is `None`.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> io::Result<Option<T>> {
        match self.runtime.block_on(work) {
            Err(Error::NotFound { .. }) => Ok(None),
            done => done.map(Some).map_err(io::Error::from),
        }
    }
}

/// What is put and replaced to see whether conditions are kept.
const TRIAL: &str = "trial";

/// Both of what stores tell versions by, in one text.
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
        let mode = old.map_or(PutMode::Create, |old| PutMode::Update(update(old)));
        let options = PutOptions { mode, ..PutOptions::default() };
        let path = self.path(key);
        let put = self.store.put_opts(&path, PutPayload::from(bytes.to_vec()), options);
        match self.runtime.block_on(put) {
            Ok(put) => Ok(version(put.e_tag, put.version)),
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {
                let text = format!("{key} was replaced by somebody else: the disk is served twice");
                Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>> {
        let path = self.path(prefix);
        let found: Vec<_> = self.wait(self.store.list(Some(&path)).try_collect())?.unwrap_or_default();
        let named = found.into_iter().filter_map(|meta: object_store::ObjectMeta| {
            let name = meta.location.filename()?.to_string();
            Some((format!("{prefix}{name}"), SystemTime::from(meta.last_modified)))
        });
        Ok(named.collect())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.wait(self.store.delete(&self.path(key))).map(drop)
    }
}
