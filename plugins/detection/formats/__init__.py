"""Detection datasets on disk: COCO, Pascal VOC and YOLO."""
