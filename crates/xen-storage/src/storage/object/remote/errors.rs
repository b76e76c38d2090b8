//! The errors of a store's answers: those after which a request is made again, and those that say
//! what is wrong.

use super::Remote;
use super::http::Transient;
use crate::storage::object::Unavailable;
use object_store::Error;
use std::io;

impl Remote {
    /// Returns the error of a request, and whether it is one to make again.
    pub(super) fn failed(&self, error: Error) -> io::Error {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(one) = cause {
            if let Some(transient) = one.downcast_ref::<Transient>() {
                return Unavailable::error(transient.kind(), transient.to_string());
            }
            cause = one.source();
        }
        let text = error.to_string();
        if text.contains("QuotaExceeded") {
            let text = format!("{}: its quota is exceeded: gc makes room", self.url);
            return io::Error::new(io::ErrorKind::QuotaExceeded, text);
        }
        if text.contains("RequestTimeTooSkewed") {
            let text = format!("{}: this machine's clock is wrong: set it", self.url);
            return io::Error::new(io::ErrorKind::PermissionDenied, text);
        }
        if has_no_bucket(&text) {
            return self.no_bucket();
        }
        match &error {
            Error::Generic { .. } if !is_refused(&text) => {
                Unavailable::error(io::ErrorKind::Interrupted, text)
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                let text = format!(
                    "{}: it refuses the keys of the environment for this bucket, or there is none: \
                     {text}",
                    self.url
                );
                io::Error::new(io::ErrorKind::PermissionDenied, text)
            }
            _ => error.into(),
        }
    }

    /// Returns the error of a bucket that is not there.
    pub(super) fn no_bucket(&self) -> io::Error {
        let text = format!("{}: there is no such bucket: make it", self.url);
        io::Error::new(io::ErrorKind::NotFound, text)
    }
}

/// Returns true for the text of an error that says that there is no bucket.
pub fn has_no_bucket(text: &str) -> bool {
    text.contains("NoSuchBucket")
}

/// Returns true for the text of an error that says that a request is wrong (4xx): to make it again
/// is of no use. The crate has no other way to tell.
fn is_refused(text: &str) -> bool {
    text.contains("status code: 4")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use object_store::aws::AmazonS3Builder;
    use object_store::{ClientOptions, ObjectStore, RetryConfig};
    use tokio::runtime::Builder;

    /// Returns the error that the crate makes of an answer to a list.
    fn answered(status: &'static str, body: &'static str) -> Error {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let len = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
            );
        });
        let store = AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_region("us-east-1")
            .with_endpoint(address)
            .with_access_key_id("a")
            .with_secret_access_key("b")
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listed = store.list(None).try_for_each(|_| std::future::ready(Ok(())));
        runtime.block_on(listed).unwrap_err()
    }

    #[test]
    fn refused_requests_are_no_outage() {
        let text = answered("404 Not Found", "<Code>NoSuchBucket</Code>").to_string();
        assert!(is_refused(&text) && has_no_bucket(&text), "{text}");
        let text = answered("400 Bad Request", "<Code>InvalidBucketName</Code>").to_string();
        assert!(is_refused(&text) && !has_no_bucket(&text), "{text}");
        let text = answered("503 Slow Down", "").to_string();
        assert!(!is_refused(&text), "{text}");
    }
}
