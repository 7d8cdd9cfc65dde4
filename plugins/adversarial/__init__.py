"""Parts of adversarial training that several tasks share: losses, penalties, augmentation."""
