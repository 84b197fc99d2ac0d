//! What runs in the guest: collects evidence, gets releases, opens models.
