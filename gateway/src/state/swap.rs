//! The one place that knows arc-swap.
//!
//! Owns the pointer to the snapshot in force. It must never be used with arc-swap's default strategy (see
//! docs/decisions): the lock strategy is correct by inspection, and a worker's cache costs one relaxed load.
//! Next: `store.rs`, the only writer.

use arc_swap::ArcSwapAny;
use arc_swap::cache::Cache;
use std::sync::{Arc, RwLock};

type Pointer<T> = ArcSwapAny<Arc<T>, RwLock<()>>;

/// A pointer that one writer swaps and every worker reads.
#[derive(Debug)]
pub struct Swap<T>(Arc<Pointer<T>>);

impl<T> Clone for Swap<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Swap<T> {
    /// Points at `first`.
    pub fn new(first: T) -> Self {
        Self(Arc::new(Pointer::new(Arc::new(first))))
    }

    /// The value in force.
    pub fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces it; readers that hold the old one keep it until they let go.
    pub fn store(&self, next: Arc<T>) {
        self.0.store(next);
    }

    /// A reader of its own for one worker.
    pub fn reader(&self) -> Reader<T> {
        Reader(Cache::new(Arc::clone(&self.0)))
    }
}

/// One worker's view: a comparison of one pointer per read while nothing changes.
pub struct Reader<T>(Cache<Arc<Pointer<T>>, Arc<T>>);

impl<T> Reader<T> {
    /// The value in force; everything seen in one request must come from one call.
    pub fn load(&mut self) -> &Arc<T> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_value_that_was_stored_last() {
        let swap = Swap::new(1);
        let mut reader = swap.reader();
        assert_eq!(**reader.load(), 1);
        swap.store(Arc::new(2));
        assert_eq!(**reader.load(), 2);
        assert_eq!(*swap.load(), 2);
    }
}
