#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod layer;
pub mod stack;
pub mod storage;
