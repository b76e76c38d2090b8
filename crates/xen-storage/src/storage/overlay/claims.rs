//! Clusters that are being taken in: others that want the same one wait.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};

/// The clusters that are claimed.
#[derive(Default)]
pub struct Claims {
    clusters: Mutex<BTreeSet<u64>>,
    freed: Condvar,
}

/// The right to take a cluster in, given back when it is dropped.
pub struct Claim<'a> {
    claims: &'a Claims,
    cluster: u64,
}

impl Claims {
    /// Waits until nobody else has the cluster.
    pub fn claim(&self, cluster: u64) -> Claim<'_> {
        let mut clusters = self.clusters.lock().expect("no holder panics");
        while !clusters.insert(cluster) {
            clusters = self.freed.wait(clusters).expect("no holder panics");
        }
        Claim { claims: self, cluster }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.clusters.lock().expect("no holder panics").remove(&self.cluster);
        self.claims.freed.notify_all();
    }
}
