//! An object store behind a URL: S3, Google's, Azure's, through the crate `object_store`.

mod conditions;
mod errors;
mod http;
mod limits;

use super::{Listed, Objects};
use conditions::Form;
use errors::has_no_bucket;
use futures_util::TryStreamExt;
use http::{Clock, Connector};
use limits::{CONNECT_TIMEOUT, HEDGES, PUT_TIMEOUT, TIMEOUT, hedged, late, put_timeout};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion, parse_url_opts,
};
use percent_encoding::percent_decode_str;
use std::env;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use url::Url;

/// A store, and the thread that waits for its network.
pub struct Remote {
    runtime: Runtime,
    store: Box<dyn ObjectStore>,
    prefix: Path,
    url: String,
    clock: Clock,
    /// Form in which the store takes versions, once it was found out.
    form: AtomicU8,
}

impl Remote {
    /// Opens the store at `url`, for instance `s3://bucket/folder`, `gs://bucket` or
    /// `az://container`. Keys, regions and endpoints come from the environment, by the names that
    /// the stores' own tools use (AWS_ACCESS_KEY_ID, ...). Nothing is asked of it yet.
    pub fn open(url: &str) -> io::Result<Self> {
        let url =
            Url::parse(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let clock = Clock::default();
        let conflicts_pass = matches!(url.scheme(), "s3" | "s3a");
        let connector = Connector { clock: clock.clone(), conflicts_pass };
        let (store, prefix) = client(&url, connector).map_err(io::Error::from)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let form = AtomicU8::new(Form::Unknown as u8);
        Ok(Remote { runtime, store, prefix, url: url.to_string(), clock, form })
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
            Err(Error::NotFound { source, .. }) => match has_no_bucket(&source.to_string()) {
                true => Err(self.no_bucket()),
                false => Ok(None),
            },
            done => done.map(Some).map_err(|error| self.failed(error)),
        }
    }

    /// Asks again beside the first request if that does not answer soon, and takes the answer that
    /// comes first.
    fn wait_hedged<T, F: Future<Output = Result<T, Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> io::Result<Option<T>> {
        self.wait(hedged(&HEDGES, ask))
    }

    /// Puts on a condition, in the form that `form` says.
    fn put_if(&self, key: &str, bytes: &[u8], old: Option<&str>, form: Form) -> Put {
        let mode = old.map_or(PutMode::Create, |old| PutMode::Update(update(old, form)));
        let options = PutOptions { mode, ..PutOptions::default() };
        let path = self.path(key);
        let put = self.store.put_opts(&path, PutPayload::from(bytes.to_vec()), options);
        let put = async { timeout(put_timeout(bytes), put).await };
        let Ok(done) = self.runtime.block_on(put) else { return Put::Failed(late()) };
        match done {
            Ok(put) => Put::Done(version(put.e_tag, put.version)),
            Err(Error::NotFound { .. }) if old.is_some() => Put::Refused("removed"),
            Err(
                Error::Precondition { .. }
                | Error::AlreadyExists { .. }
                | Error::NotModified { .. },
            ) => Put::Refused("replaced"),
            Err(error) => Put::Failed(self.failed(error)),
        }
    }

    fn form(&self) -> Form {
        Form::of(self.form.load(Ordering::Relaxed))
    }
}

/// Result of a put on a condition.
enum Put {
    /// It is there, of that version.
    Done(String),
    /// The condition did not hold: the object was that.
    Refused(&'static str),
    /// Something else went wrong.
    Failed(io::Error),
}

/// Makes the client of a store, and finds the folder in it. Requests are made once: they are made
/// again by `Patient`.
fn client(url: &Url, connector: Connector) -> object_store::Result<(Box<dyn ObjectStore>, Path)> {
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let options = ClientOptions::new().with_timeout(TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
    // The options of the environment, as one that is allowed to speak HTTP, stay.
    let options = match env::var("AWS_ALLOW_HTTP").as_deref() {
        Ok("true" | "1") => options.with_allow_http(true),
        _ => options,
    };
    let folder = Path::from_url_path(url.path());
    let store: Box<dyn ObjectStore> = match url.scheme() {
        "s3" | "s3a" => Box::new(
            AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        "gs" => Box::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        "az" | "azure" | "abfs" | "abfss" | "adl" => Box::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        _ => {
            let settings = env::vars_os().filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            });
            return parse_url_opts(url, settings);
        }
    };
    Ok((store, folder?))
}

/// Folder of objects that are put to see what the store does, and deleted at once.
const TRIALS: &str = "trials/";

/// Most times that a put is sent which a store refused without its condition being broken.
const MAX_CONFLICTS: u32 = 6;
/// Time between two of them.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// Puts both things that stores tell versions by into one text.
fn version(e_tag: Option<String>, version: Option<String>) -> String {
    format!("{}\n{}", e_tag.unwrap_or_default(), version.unwrap_or_default())
}

fn update(version: &str, form: Form) -> UpdateVersion {
    let (e_tag, version) = version.split_once('\n').unwrap_or((version, ""));
    let given = |text: &str| (!text.is_empty()).then(|| text.to_string());
    UpdateVersion { e_tag: given(&form.write(e_tag)), version: given(version) }
}

impl Objects for Remote {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        let path = self.path(key);
        self.wait_hedged(|| async {
            let found = self.store.get(&path).await?;
            let version = version(found.meta.e_tag.clone(), found.meta.version.clone());
            Ok((found.bytes().await?.to_vec(), version))
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(key);
        let found = self.wait_hedged(|| self.store.get_range(&path, range.clone()))?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, payload) = (self.path(key), PutPayload::from(bytes.to_vec()));
        let put = async { timeout(put_timeout(bytes), self.store.put(&path, payload)).await };
        match self.runtime.block_on(put) {
            Err(_) => Err(late()),
            Ok(Err(Error::NotFound { .. })) => Err(self.no_bucket()),
            Ok(done) => done.map(drop).map_err(|error| self.failed(error)),
        }
    }

    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        let mut conflicts = 0;
        loop {
            let what = match self.put_if(key, bytes, old, self.form()) {
                Put::Done(version) => return Ok(version),
                Put::Failed(error) => return Err(error),
                Put::Refused(what) => what,
            };
            conflicts += 1;
            // Two puts at the same moment are both refused by some stores.
            if what == "replaced" && conflicts < MAX_CONFLICTS && self.is_unchanged(key, old)? {
                std::thread::sleep(CONFLICT_PAUSE);
                continue;
            }
            let text = format!("{key} was {what} by another program");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
        let path = self.path(prefix);
        let listing = self.store.list(Some(&path)).try_for_each(|meta| {
            // The store has names encoded, as `path` makes them. A name that cannot be decoded is
            // not found under its key, and that is told.
            let name = meta.location.prefix_match(&path).map(|parts| {
                let parts = parts
                    .map(|part| percent_decode_str(part.as_ref()).decode_utf8_lossy().into_owned());
                parts.collect::<Vec<_>>().join("/")
            });
            // A folder's own entry is none of its contents.
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                let (key, put) = (format!("{prefix}{name}"), meta.last_modified.into());
                found(Listed { key, put, bytes: meta.size });
            }
            std::future::ready(Ok(()))
        });
        self.wait(listing).map(drop)
    }

    /// The time of its last answer, and what has gone by since.
    fn time(&self) -> io::Result<Option<SystemTime>> {
        Ok(self.clock.now())
    }

    fn identity(&self) -> Option<String> {
        Some(self.url.clone())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key);
        let delete = async { timeout(PUT_TIMEOUT, self.store.delete(&path)).await };
        match self.runtime.block_on(delete) {
            Err(_) => Err(late()),
            Ok(Ok(()) | Err(Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(self.failed(error)),
        }
    }

    fn check_conditions(&self) -> io::Result<()> {
        self.find_form()
    }
}
