//! Shared memory for tests: plain bytes, touched by one thread.

use std::cell::RefCell;
use xen_platform::{IndexMemory, SharedMem};

pub struct TestMem(RefCell<Vec<u8>>);

impl TestMem {
    pub fn new(len: usize) -> Self {
        TestMem(RefCell::new(vec![0; len]))
    }
}

impl IndexMemory for TestMem {
    fn load(&self, at: usize) -> u32 {
        assert!(at % 4 == 0);
        u32::from_le_bytes(self.0.borrow()[at..at + 4].try_into().unwrap())
    }
    fn store(&self, at: usize, value: u32) {
        assert!(at % 4 == 0);
        self.write(at, &value.to_le_bytes())
    }
    fn load_u8(&self, at: usize) -> u8 {
        self.0.borrow()[at]
    }
    fn store_u8(&self, at: usize, value: u8) {
        self.0.borrow_mut()[at] = value
    }
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        let was = self.load_u8(at);
        self.store_u8(at, was | bits);
        was
    }
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        let was = self.load_u8(at);
        self.store_u8(at, was & bits);
        was
    }
    fn fence(&self) {}
}

impl SharedMem for TestMem {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.borrow()[at..at + to.len()])
    }
    fn write(&self, at: usize, from: &[u8]) {
        self.0.borrow_mut()[at..at + from.len()].copy_from_slice(from)
    }
}
