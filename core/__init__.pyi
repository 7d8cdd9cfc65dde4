"""The public names and where each lives; ``__init__.py`` reads this file too."""

from visiongraft import data as data
from visiongraft import errors as errors
from visiongraft import schedules as schedules
from visiongraft.backbone import Backbone as Backbone
from visiongraft.backbone import BackboneInfo as BackboneInfo
from visiongraft.backbone import BackboneSource as BackboneSource
from visiongraft.backbone import Features as Features
from visiongraft.certificate import Certificate as Certificate
from visiongraft.certificate import Comparison as Comparison
from visiongraft.comparison import Disagreement as Disagreement
from visiongraft.data.batch import Batch as Batch
from visiongraft.data.batch import StepInfo as StepInfo
from visiongraft.data.labels import LabelMap as LabelMap
from visiongraft.data.readers import DataReader as DataReader
from visiongraft.data.readers import DataSplits as DataSplits
from visiongraft.data.samples import EvaluationSplit as EvaluationSplit
from visiongraft.data.samples import FileSamples as FileSamples
from visiongraft.data.samples import Samples as Samples
from visiongraft.data.samples import Splits as Splits
from visiongraft.data.samples import WrappedSamples as WrappedSamples
from visiongraft.errors import VisiongraftError as VisiongraftError
from visiongraft.exporter import Exporter as Exporter
from visiongraft.fitting import fit as fit
from visiongraft.hookspecs import RunHooks as RunHooks
from visiongraft.hookspecs import hookimpl as hookimpl
from visiongraft.lookup import find_schedule as find_schedule
from visiongraft.lookup import load_backbone as load_backbone
from visiongraft.lookup import read_data as read_data
from visiongraft.model import TransferModel as TransferModel
from visiongraft.model import load as load
from visiongraft.network import Network as Network
from visiongraft.optimizers import OptimizerFactory as OptimizerFactory
from visiongraft.optimizers import OptimizerSpec as OptimizerSpec
from visiongraft.optimizers import optimizer as optimizer
from visiongraft.preprocess import PreprocessConfig as PreprocessConfig
from visiongraft.schedules import Phase as Phase
from visiongraft.schedules import Schedule as Schedule
from visiongraft.schedules import schedule as schedule
from visiongraft.task import Metrics as Metrics
from visiongraft.task import Task as Task
from visiongraft.training.freezing import Receipt as Receipt
from visiongraft.training.run import Run as Run
from visiongraft.training.transfer_losses import TransferLoss as TransferLoss
from visiongraft.training.transfer_losses import TransferStep as TransferStep

__version__: str
