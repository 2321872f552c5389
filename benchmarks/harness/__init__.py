"""What tables share: splits, settings, images with their features, measuring, reports and pages."""
